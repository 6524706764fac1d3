/** @file A motion area: one cell a pixel of the clip, 1 where hands may move. */

/**
 * @typedef {object} Area
 * @property {number} width
 * @property {number} height
 * @property {Uint8Array} cells rows of 0 and 1
 */

const DRAWN = 640; // pixels of the longer side that an area is drawn with, at least
const FILL = "rgb(20 184 166 / 0.42)";
/** @type {[string, number][]} */
const EDGES = [
  ["rgb(4 47 46)", 5],
  ["rgb(153 246 228)", 2],
];

/**
 * @param {number} width
 * @param {number} height
 * @returns {Area}
 */
export function emptyArea(width, height) {
  return { width, height, cells: new Uint8Array(width * height) };
}

/** The share of the picture that the area covers. */
export function coverage(/** @type {Area} */ area) {
  let count = 0;
  for (const cell of area.cells) count += cell;
  return count / area.cells.length;
}

/**
 * Set every cell whose centre is within a radius of the segment from one point to another.
 * @param {Area} area changed in place
 * @param {{x: number, y: number}} from in cells
 * @param {{x: number, y: number}} to
 * @param {number} diameter
 * @param {0|1} value
 */
export function stroke(area, from, to, diameter, value) {
  const radius = Math.max(diameter / 2, 0.71); // a smaller disc could fall between the centres
  const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius));
  const right = Math.min(area.width - 1, Math.ceil(Math.max(from.x, to.x) + radius));
  const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
  const bottom = Math.min(area.height - 1, Math.ceil(Math.max(from.y, to.y) + radius));
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = dx * dx + dy * dy;
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      const [px, py] = [column + 0.5 - from.x, row + 0.5 - from.y];
      const along = length && Math.min(1, Math.max(0, (px * dx + py * dy) / length));
      if (Math.hypot(px - along * dx, py - along * dy) <= radius) {
        area.cells[row * area.width + column] = value;
      }
    }
  }
}

/**
 * Draw an area for people: tinted, with a light line in a dark one at its edge that shows on any
 * scene.
 * @param {HTMLCanvasElement} canvas takes a multiple of the area's size, for fine lines
 * @param {Area} area
 */
export function drawArea(canvas, area) {
  const { width, height, cells } = area;
  const scale = Math.max(1, Math.ceil(DRAWN / Math.max(width, height)));
  [canvas.width, canvas.height] = [width * scale, height * scale]; // wipes it, too
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const edge = new Path2D();
  context.fillStyle = FILL;
  for (let y = 0; y < height; y++) {
    for (let x = 0, start = -1; x <= width; x++) {
      const here = x < width ? cells[y * width + x] : 0;
      if (here && start < 0) start = x;
      if (!here && start >= 0) {
        context.fillRect(start * scale, y * scale, (x - start) * scale, scale);
        start = -1;
      }
      if (x > 0 && x < width && here !== cells[y * width + x - 1]) line(edge, scale, x, y, x, y + 1);
      if (y > 0 && x < width && here !== cells[(y - 1) * width + x]) line(edge, scale, x, y, x + 1, y);
    }
  }
  context.lineCap = "square";
  for (const [colour, thickness] of EDGES) {
    context.strokeStyle = colour;
    context.lineWidth = thickness;
    context.stroke(edge);
  }
}

function line(path, scale, x0, y0, x1, y1) {
  path.moveTo(x0 * scale, y0 * scale);
  path.lineTo(x1 * scale, y1 * scale);
}

/**
 * A mask picture, white where hands may move, as an area of its own size.
 * @param {Blob} png
 * @returns {Promise<Area>}
 */
export async function readArea(png) {
  const bitmap = await createImageBitmap(png, { colorSpaceConversion: "none" });
  const area = emptyArea(bitmap.width, bitmap.height);
  const context = scratch(area).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, area.width, area.height);
  for (let i = 0; i < area.cells.length; i++) area.cells[i] = data[i * 4] > 127 ? 1 : 0;
  bitmap.close();
  return area;
}

/**
 * The area as an opaque PNG of its own size, white where hands may move.
 * @param {Area} area
 * @returns {Promise<Blob>}
 */
export function writeArea(area) {
  const canvas = scratch(area);
  const pixels = new ImageData(area.width, area.height);
  for (let i = 0; i < area.cells.length; i++) {
    const level = area.cells[i] * 255;
    pixels.data.set([level, level, level, 255], i * 4);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no PNG"))), "image/png");
  });
}

/** @returns {any} a canvas of the area's size that is not in the page */
function scratch({ width, height }) {
  return Object.assign(document.createElement("canvas"), { width, height });
}
