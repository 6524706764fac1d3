/** @file A new clip: picture, instruction, motion area and settings, to the job made of them. */

import { callBlob, callJson } from "./api.js";
import { coverage, readArea, writeArea } from "./area.js";
import { createBrush } from "./brush.js";
import { byId, isAbort } from "./dom.js";
import { clearNotice, patiently, showError } from "./notices.js";
import { createScene } from "./scene.js";
import { createSettings } from "./settings.js";

const PAUSE = 500; // milliseconds without typing before the area is predicted
const AREA_SETTINGS = ["size", "seconds", "seed", "guidance_scale", "mask_steps"];

/** @param {(job: import("./words.js").Job) => void} onJob a job was accepted */
export function createComposer(onJob) {
  const form = byId("compose");
  const prompt = byId("prompt");
  const stage = byId("stage");
  /** @type {File|null} */
  let file = null;
  let shape = "";
  let sending = false;
  /** What the area shown was asked for: the same is not asked twice. */
  let askedFor = "";
  let answered = false;
  let predicting = new AbortController();
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let pause;
  /** @type {Promise<void>|null} */
  let model = null;

  const brush = createBrush(byId("area"), byId("cursor"), {
    begin() {
      // Who paints has the word: a prediction still under way would overwrite the stroke.
      if (!byId("predicting").hidden) stopPredicting();
    },
    change: showTools,
    say: (news) => (byId("brush-news").textContent = news),
  });
  const settings = createSettings(() => {
    fitStage();
    predictSoon();
  });
  const scene = createScene((picked, words) => {
    file = picked;
    if (words !== null) prompt.value = words;
    clearPlaces();
    shape = ""; // another picture: what was painted belongs to the one before
    fitStage();
    showStage();
    predictSoon(0);
  });

  /** The model's defaults are there, or are asked for again where that failed before. */
  function knowModel() {
    const place = byId("generate-error");
    const load = async () => {
      const models = await patiently(() => callJson("/v1/models"), place);
      clearNotice(place);
      settings.setModel(models.data[0]);
      byId("area").hidden = false;
      showStage();
    };
    model ??= load().catch((error) => {
      model = null;
      throw error;
    });
    return model;
  }

  /** Only on the clip's own pixels can be painted: before the model is known nothing is. */
  function showStage() {
    byId("tools").hidden = !file || byId("area").hidden;
  }

  /** Show the picture as the service cuts it, and the area on the clip's own pixels. */
  function fitStage() {
    const { width, height } = settings.size();
    if (shape === `${width}x${height}`) return;
    stopPredicting(); // its answer would be of the size before
    shape = `${width}x${height}`;
    stage.style.aspectRatio = `${width} / ${height}`;
    stage.style.maxWidth = `min(100%, ${Math.round((60 * width) / height)}vh)`;
    brush.reset(width, height);
    askedFor = "";
  }

  function showTools() {
    const { area, byHand, erasing, diameter, largest, undoable } = brush.state();
    const share = coverage(area);
    const waiting = !byId("predicting").hidden;
    byId("undo").disabled = !undoable;
    byId("clear").disabled = share === 0 && !waiting;
    byId("predict").disabled = !prompt.value.trim() || !settings.hasStage1();
    byId("brush-size").max = String(largest);
    byId("brush-size").value = String(diameter);
    form.elements.tool.value = erasing ? "erase" : "paint";
    byId("area-state").textContent = areaWords(waiting, share, byHand);
  }

  function areaWords(waiting, share, byHand) {
    if (waiting) return "Predicting where hands will move…";
    const percent = share > 0 && share < 0.005 ? "under 1" : Math.round(100 * share);
    if (file && settings.flawOf(file)) return settings.flawOf(file);
    if (!settings.hasStage1()) return "This model has no motion area: anything may move.";
    if (share > 0) return `${byHand ? "Painted" : "Predicted"}: ${percent} % of the picture may move.`;
    if (answered) return "Nothing is predicted to move. Paint an area, or let it be predicted while generating.";
    if (!prompt.value.trim()) return "Type an instruction to see where hands will move, or paint it.";
    return "No area: it is predicted while generating, unless you paint one.";
  }

  function predictSoon(milliseconds = PAUSE) {
    clearTimeout(pause);
    pause = setTimeout(async () => {
      try {
        if (file) await knowModel();
      } catch (error) {
        return showError(byId("generate-error"), error);
      }
      // Hand work is not thrown away for a changed word: "Predict again" is there for that.
      const { area, byHand } = brush.state();
      if (!(byHand && coverage(area))) predict();
    }, milliseconds);
  }

  /** What an area is predicted from, beside the picture. */
  function areaFields() {
    return { prompt: prompt.value.trim(), ...settings.values(AREA_SETTINGS) };
  }

  async function predict({ again = false } = {}) {
    const fields = areaFields();
    if (!again && JSON.stringify(fields) === askedFor) return;
    stopPredicting();
    askedFor = JSON.stringify(fields);
    answered = false;
    if (!file || !fields.prompt || settings.flawOf(file) || !settings.hasStage1()) return showTools();
    predicting = new AbortController();
    const { signal } = predicting;
    const body = formOf(fields, file);
    clearPlaces();
    brush.clear(); // what is shown is what would be sent, so nothing stale stays
    byId("predicting").hidden = false;
    showTools();
    try {
      const ask = () => callBlob("/v1/masks", { method: "POST", body, signal });
      const area = await readArea(await patiently(ask, byId("mask-error"), signal));
      const { width, height } = brush.state().area;
      if (signal.aborted) return;
      if (area.width !== width || area.height !== height) throw new Error("an area of another size");
      answered = true;
      endPredicting();
      brush.replace(area);
    } catch (error) {
      if (signal.aborted) return; // a newer request, or the user, has the word now
      endPredicting();
      showError(placeOf(error, byId("mask-error")), error);
    }
  }

  function endPredicting() {
    byId("predicting").hidden = true;
    showTools();
  }

  function stopPredicting() {
    clearTimeout(pause);
    predicting.abort();
    endPredicting();
  }

  async function generate() {
    if (sending) return;
    clearPlaces();
    const flaw = findFlaw();
    if (flaw) {
      showError(byId(`${flaw.field.id}-error`), flaw.message);
      reveal(flaw.field);
      flaw.field.focus();
      return;
    }
    sending = true;
    byId("generate").setAttribute("aria-disabled", "true");
    byId("generate").textContent = "Sending…";
    try {
      await knowModel();
      stopPredicting();
      const body = await jobForm();
      const send = () => callJson("/v1/videos", { method: "POST", body });
      onJob(await patiently(send, byId("generate-error")));
    } catch (error) {
      if (isAbort(error)) return;
      const place = placeOf(error, byId("generate-error"));
      showError(place, error);
      reveal(place);
    } finally {
      sending = false;
      byId("generate").removeAttribute("aria-disabled");
      byId("generate").textContent = "Generate";
    }
  }

  async function jobForm() {
    const { area } = brush.state();
    const { mask_steps, ...rest } = settings.values();
    const drawn = coverage(area) > 0;
    const steps = !drawn && mask_steps ? { mask_steps } : {}; // a drawn area leaves stage 1 out
    const body = formOf({ prompt: prompt.value.trim(), ...rest, ...steps }, file);
    if (drawn) body.append("mask", await writeArea(area), "mask.png");
    return body;
  }

  /** The first field that cannot be sent, and why. */
  function findFlaw() {
    if (!file) return { field: byId("file"), message: "Choose a picture first." };
    if (settings.flawOf(file)) return { field: byId("file"), message: settings.flawOf(file) };
    if (!prompt.value.trim()) return { field: prompt, message: "Say what the hands are to do." };
    const field = form.querySelector("#settings input:invalid");
    return field && { field, message: field.validationMessage };
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
  prompt.addEventListener("input", () => {
    clearNotice(byId("prompt-error"));
    showTools();
    predictSoon();
  });
  for (const radio of form.elements.tool) {
    radio.addEventListener("change", () => brush.setErasing(radio.value === "erase"));
  }
  byId("brush-size").addEventListener("input", (event) => brush.setDiameter(Number(event.target.value)));
  byId("undo").addEventListener("click", () => brush.undo());
  byId("predict").addEventListener("click", () => predict({ again: true }));
  byId("clear").addEventListener("click", () => {
    stopPredicting();
    answered = false;
    brush.clear();
  });

  return {
    /** Fetch what the form begins with: the model's defaults and the examples. */
    async begin() {
      scene.offerExamples().catch((error) => console.warn(error)); // the form works without them
      await knowModel().catch((error) => showError(byId("generate-error"), error));
    },
    /**
     * Fill in what an earlier clip was made from.
     * @param {import("./words.js").Job} job
     * @param {Blob} picture
     * @param {Blob|null} mask the area, where it was given
     */
    async startFrom(job, picture, mask) {
      const before = file;
      await knowModel();
      const area = mask && (await readArea(mask));
      if (file !== before) return; // the user chose another picture meanwhile
      const own = new File([picture], "scene.png", { type: "image/png" });
      await scene.pick(own, job.prompt);
      if (file !== own) return;
      settings.setFrom(job);
      if (!area) return;
      stopPredicting();
      askedFor = JSON.stringify(areaFields());
      brush.replace(area, true); // as good as painted: no changed word throws it away
    },
  };
}

/**
 * @param {Record<string, string>} fields
 * @param {File|null} file
 */
function formOf(fields, file) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  if (file) body.append("input_reference", file, file.name || "picture");
  return body;
}

function clearPlaces() {
  const places = document.querySelectorAll("#compose .notice:not(.waiting)");
  for (const place of places) clearNotice(/** @type {any} */ (place));
}

/** Where an error belongs: beside the field that the service names. */
function placeOf(error, otherwise) {
  const named = error.param && document.querySelector(`[data-error-for="${CSS.escape(error.param)}"]`);
  return named || otherwise;
}

function reveal(element) {
  const details = element.closest("details");
  if (details) details.open = true;
  element.scrollIntoView({ block: "nearest" });
}
