/** @file The advanced settings: the model's defaults, and what the user made of them. */

import { byId } from "./dom.js";
import { parseSize } from "./words.js";

const NAMES = ["seed", "guidance_scale", "num_inference_steps", "mask_steps", "size", "seconds"];

/** @param {() => void} onChange */
export function createSettings(onChange) {
  /** @type {Record<string, unknown>} */
  let defaults = {};
  const fields = NAMES.map((name) => byId(name));
  for (const field of fields) field.addEventListener("change", onChange);
  byId("defaults").addEventListener("click", () => fill(defaults));

  /** @param {Record<string, unknown>} values null or absent leaves a field to the service */
  function fill(values) {
    for (const field of fields) field.value = values[field.name] ?? "";
    onChange();
  }

  /**
   * What is filled in, as it is sent.
   * @param {string[]} [names]
   * @returns {Record<string, string>}
   */
  function values(names = NAMES) {
    const filled = fields.filter((field) => names.includes(field.name) && field.value.trim());
    return Object.fromEntries(filled.map((field) => [field.name, asSent(field)]));
  }

  function asSent(field) {
    const value = field.value.trim();
    return field.name === "size" ? value.replace(/\s/g, "").toLowerCase() : value;
  }

  return {
    /** @param {any} model an entry of /v1/models */
    setModel(model) {
      defaults = model;
      const most = model.max_pixels.toLocaleString("en");
      byId("size-hint").textContent = `Width x height: multiples of ${model.pixel_multiple}, at most ${most} pixels`;
      byId("prompt").maxLength = model.max_prompt_characters;
      for (const name of ["num_inference_steps", "mask_steps"]) byId(name).max = model.max_steps;
      byId("mask_steps").parentElement.hidden = !this.hasStage1();
      fill({ ...model, ...values() });
    },
    /** The settings of an earlier clip. */
    setFrom(/** @type {import("./words.js").Job} */ job) {
      const seconds = Number((job.num_frames / Number(defaults.fps)).toFixed(3)); // so many frames again
      fill({ ...job, seconds, mask_steps: job.mask_steps ?? defaults.mask_steps });
    },
    values,
    /** Whether the model predicts motion areas. */
    hasStage1() {
      return defaults.mask_steps !== null;
    },
    /** Why a picture cannot be sent; nothing where it can. */
    flawOf(/** @type {File} */ file) {
      const most = Number(defaults.max_image_bytes ?? Infinity);
      return file.size > most ? `The picture's file is too large: at most ${megabytes(most)} MB.` : "";
    },
    /** The clip's size; where the field says none that can be, the model's. */
    size() {
      const asked = parseSize(byId("size").value);
      const fits = asked && asked.width * asked.height <= Number(defaults.max_pixels ?? 0);
      return fits ? asked : (parseSize(String(defaults.size ?? "")) ?? { width: 64, height: 64 });
    },
  };
}

function megabytes(bytes) {
  return (bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 });
}
