/** @file The brush: an area painted and erased by pointer, touch or keyboard, with undo. */

import { coverage, drawArea, emptyArea, stroke } from "./area.js";

/** @typedef {import("./area.js").Area} Area */

const REMEMBERED = 30;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLElement} cursor a ring over the canvas that shows where the brush is and how large
 * @param {object} on
 * @param {() => void} on.begin before a stroke is made
 * @param {() => void} on.change after the area, the tool or the brush's size changed
 * @param {(news: string) => void} on.say in words what a keyboard user cannot see
 */
export function createBrush(canvas, cursor, on) {
  let area = emptyArea(1, 1);
  let byHand = false;
  let erasing = false;
  let diameter = 6;
  let at = { x: 0, y: 0 };
  let penDown = false;
  let frame = 0;
  /** @type {{cells: Uint8Array, byHand: boolean}[]} */
  let past = [];

  function remember() {
    past.push({ cells: area.cells.slice(), byHand });
    if (past.length > REMEMBERED) past.shift();
  }

  function beginStroke() {
    on.begin();
    remember();
    [penDown, byHand] = [true, true];
  }

  function drawTo(point) {
    stroke(area, at, point, diameter, erasing ? 0 : 1);
    at = point;
    drawSoon();
  }

  /** A pen reports more points than the screen has frames. */
  function drawSoon() {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      drawArea(canvas, area);
    });
  }

  function changed() {
    drawSoon();
    placeCursor();
    on.change();
  }

  function placeCursor() {
    const percent = (part, whole) => `${(100 * part) / whole}%`;
    cursor.style.left = percent(at.x, area.width);
    cursor.style.top = percent(at.y, area.height);
    cursor.style.width = percent(diameter, area.width);
    cursor.classList.toggle("erasing", erasing);
  }

  function setErasing(value) {
    erasing = value;
    changed();
  }

  function setDiameter(value) {
    diameter = Math.min(Math.max(Math.round(value), 1), largest());
    changed();
  }

  function largest() {
    return Math.max(2, Math.round(Math.max(area.width, area.height) / 3));
  }

  function undo() {
    const last = past.pop();
    if (!last) return;
    [area.cells, byHand] = [last.cells, last.byHand];
    changed();
  }

  function pointOf(event) {
    const box = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * area.width,
      y: ((event.clientY - box.top) / box.height) * area.height,
    };
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    beginStroke();
    at = pointOf(event);
    drawTo(at);
    placeCursor();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!event.isPrimary) return;
    cursor.hidden = false;
    if (penDown) {
      const points = event.getCoalescedEvents?.() ?? [];
      for (const part of points.length ? points : [event]) drawTo(pointOf(part));
    } else {
      at = pointOf(event);
    }
    placeCursor();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, lift);
  canvas.addEventListener("pointerleave", () => {
    if (document.activeElement !== canvas) cursor.hidden = true;
  });
  canvas.addEventListener("focus", () => {
    cursor.hidden = false;
    placeCursor();
  });
  canvas.addEventListener("blur", () => {
    cursor.hidden = true;
    lift();
  });

  function lift() {
    if (!penDown) return;
    penDown = false;
    changed();
  }

  canvas.addEventListener("keyup", (event) => {
    if (event.key !== " ") return;
    lift();
    on.say(`${erasing ? "Erased" : "Painted"} at ${place()}`);
  });
  canvas.addEventListener("keydown", (event) => {
    if (handleKey(event)) event.preventDefault(); // or the page would scroll
  });

  /** @returns {boolean} whether the key meant something to the brush */
  function handleKey(event) {
    const command = event.ctrlKey || event.metaKey;
    if (command && event.key.toLowerCase() === "z") {
      undo();
      on.say("Undone");
      return true;
    }
    if (command || event.altKey) return false;
    if (event.key in MOVES) {
      move(MOVES[event.key], event.shiftKey ? 4 : 1);
    } else if (event.key === " ") {
      if (event.repeat) return true;
      beginStroke();
      drawTo(at);
    } else if (event.key.toLowerCase() === "e") {
      setErasing(!erasing);
      on.say(erasing ? "Eraser" : "Brush");
    } else if (event.key === "+" || event.key === "=" || event.key === "-") {
      const step = Math.max(1, Math.round(diameter / 6));
      setDiameter(diameter + (event.key === "-" ? -step : step));
      on.say(`Brush of ${diameter} pixels`);
    } else {
      return false;
    }
    return true;
  }

  function move([dx, dy], times) {
    const step = Math.max(1, diameter / 2) * times;
    const point = {
      x: Math.min(Math.max(at.x + dx * step, 0), area.width),
      y: Math.min(Math.max(at.y + dy * step, 0), area.height),
    };
    if (penDown) drawTo(point);
    at = point;
    placeCursor();
    if (!penDown) on.say(place());
  }

  function place() {
    const percent = (part, whole) => Math.round((100 * part) / whole);
    return `${percent(at.x, area.width)} % across, ${percent(at.y, area.height)} % down`;
  }

  return {
    /** Begin anew with nothing painted, for clips of this size. */
    reset(/** @type {number} */ width, /** @type {number} */ height) {
      [area, byHand, past] = [emptyArea(width, height), false, []];
      at = { x: width / 2, y: height / 2 };
      setDiameter(Math.max(width, height) / 8);
    },
    /**
     * Show another area; the one before comes back by undo.
     * @param {Area} other
     * @param {boolean} [hand] whether it counts as painted
     */
    replace(other, hand = false) {
      if (coverage(area)) remember();
      [area, byHand] = [{ ...other, cells: other.cells.slice() }, hand];
      changed();
    },
    /** Nothing painted; what was comes back by undo. */
    clear() {
      if (coverage(area)) remember();
      [area, byHand] = [emptyArea(area.width, area.height), false];
      changed();
    },
    undo,
    setErasing,
    setDiameter,
    /** @returns {{area: Area, byHand: boolean, erasing: boolean, diameter: number, largest: number, undoable: boolean}} */
    state() {
      return { area, byHand, erasing, diameter, largest: largest(), undoable: past.length > 0 };
    },
  };
}
