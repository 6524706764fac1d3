/** @file One job: its progress while it runs, its clip when it is done. */

import { ApiError, callJson, content } from "./api.js";
import { drawArea, readArea } from "./area.js";
import { byId, isAbort, sleep } from "./dom.js";
import { clearNotice, patiently, showError } from "./notices.js";
import { isUnfinished, parseSize, sentence, settingsWords, stepWords } from "./words.js";

/** @typedef {import("./words.js").Job} Job */

const POLL = 1000;
const POLL_HIDDEN = 5000;
const FILES = { video: "mp4", gif: "gif", mask: "mask.png", keypoints: "keypoints.json" };

/**
 * @param {object} on
 * @param {(job: Job) => void} on.change news of the job shown
 * @param {(id: string) => void} on.gone the job shown is there no longer
 * @param {(job: Job, picture: Blob, mask: Blob|null) => Promise<void>} on.reuse
 */
export function createJobView(on) {
  const root = byId("job");
  const error = byId("job-error");
  const video = root.querySelector("video");
  const input = root.querySelector("#job-input img");
  /** @type {Job|null} */
  let job = null;
  let opened = new AbortController();
  /** @type {string[]} Object URLs of the job shown. */
  let urls = [];

  function close() {
    opened.abort();
    opened = new AbortController();
    job = null;
    root.hidden = true;
    video.removeAttribute("src");
    video.load();
    input.removeAttribute("src");
    for (const url of urls) URL.revokeObjectURL(url);
    urls = [];
    clearNotice(error);
    byId("job-news").textContent = "";
    for (const id of ["job-input", "job-clip", "job-toggle", "job-downloads", "job-progress", "job-area"]) {
      byId(id).hidden = true;
    }
  }

  /** Show a job and stay with it until it is finished or another is opened. */
  async function open(/** @type {string} */ id) {
    showEmpty("Opening…");
    const { signal } = opened;
    try {
      let now = await follow(id, signal);
      showInput(now, signal);
      while (isUnfinished(now)) {
        await sleep(document.hidden ? POLL_HIDDEN : POLL, signal);
        now = await follow(id, signal);
      }
      if (now.status === "completed") await showClip(now, signal);
    } catch (fault) {
      if (signal.aborted) return;
      if (fault instanceof ApiError && fault.status === 404) {
        showEmpty("No clip");
        showError(error, "This clip is not there, or not any more.");
        return on.gone(id);
      }
      if (!job) byId("job-title").textContent = "No clip";
      byId("job-progress").hidden = true; // it would stand still
      showError(error, isAbort(fault) ? "No longer followed. Choose it in the list to go on." : fault);
    }
  }

  function showEmpty(title) {
    close();
    root.hidden = false;
    byId("job-title").textContent = title;
    byId("job-settings").textContent = "";
    byId("job-reuse").hidden = byId("job-delete").hidden = true;
  }

  /** One look at the job. */
  async function follow(id, signal) {
    const look = () => callJson(`/v1/videos/${encodeURIComponent(id)}`, { signal });
    const now = await steadily(look, signal);
    show(now, now.status === "queued" ? await countWaiting(signal) : null);
    return now;
  }

  /** Do something; an outage is told and waited out, and what was told of it is then taken back. */
  async function steadily(action, signal) {
    let told = "";
    for (;;) {
      try {
        const result = await patiently(action, error, signal);
        if (error.textContent === told) clearNotice(error); // another error may stand there by now
        return result;
      } catch (fault) {
        const outage = fault instanceof ApiError && (fault.status === 0 || fault.status >= 500);
        if (!outage) throw fault;
        told = `${fault.message} Trying again.`;
        showError(error, told);
        await sleep(3000, signal);
      }
    }
  }

  /**
   * @param {Job} now
   * @param {number|null} waiting jobs that are queued in all, where known
   */
  function show(now, waiting) {
    const before = job;
    job = now;
    byId("job-title").textContent = now.prompt;
    byId("job-settings").textContent = settingsWords(now);
    byId("job-reuse").hidden = byId("job-delete").hidden = false;
    byId("job-delete").textContent = isUnfinished(now) ? "Cancel and delete" : "Delete";
    byId("job-progress").hidden = !isUnfinished(now);
    // Before they are loaded: what stands below must not move under a pointer.
    frame("job-input", now);
    if (now.status === "completed") {
      frame("job-clip", now);
      byId("job-toggle").hidden = byId("job-downloads").hidden = false;
    }
    byId("job-bar").value = now.progress;
    byId("job-step").textContent = stepWords(now, waiting);
    if (now.status === "failed") showError(error, failure(now));
    if (news(before) !== news(now)) byId("job-news").textContent = news(now);
    on.change(now);
  }

  async function showInput(now, signal) {
    try {
      input.src = urlOf(await content(now.id, "input", signal));
    } catch (fault) {
      if (!signal.aborted) console.warn(fault); // the clip matters more than its picture
    }
  }

  async function showClip(now, signal) {
    const part = (variant) => steadily(() => content(now.id, variant, signal), signal);
    const clip = await part("video");
    const area = await readArea(await part("mask"));
    if (signal.aborted) return;
    drawArea(byId("job-area"), area);
    showArea();
    video.src = urlOf(clip);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    video.play().catch(() => {}); // a browser that forbids it shows its own play button
  }

  function frame(id, now) {
    const size = parseSize(now.size);
    const box = byId(id).querySelector(".frame");
    if (size) box.style.aspectRatio = `${size.width} / ${size.height}`;
    byId(id).hidden = false;
  }

  function urlOf(blob) {
    const url = URL.createObjectURL(blob);
    urls.push(url);
    return url;
  }

  function showArea() {
    byId("job-area").hidden = !byId("job-show-area").checked;
  }

  async function download(variant) {
    if (!job) return;
    const { id } = job;
    try {
      const blob = await patiently(() => content(id, variant, opened.signal), error, opened.signal);
      const link = document.createElement("a");
      link.href = urlOf(blob);
      link.download = `${id}.${FILES[variant]}`;
      link.click();
    } catch (fault) {
      showError(error, fault);
    }
  }

  async function remove() {
    if (!job) return;
    const { id } = job;
    byId("delete-title").textContent = `Delete “${job.prompt}”?`;
    if ((await answerOf(byId("delete-dialog"))) !== "delete") return;
    try {
      await patiently(() => callJson(`/v1/videos/${encodeURIComponent(id)}`, { method: "DELETE" }), error);
    } catch (fault) {
      if (!(fault instanceof ApiError && fault.status === 404)) return showError(error, fault);
    }
    if (job?.id === id) close();
    on.gone(id);
  }

  async function reuse() {
    if (!job) return;
    const chosen = job;
    const { signal } = opened; // another job opened meanwhile ends it
    try {
      const part = (variant) => patiently(() => content(chosen.id, variant, signal), error, signal);
      const drawn = chosen.mask_steps === null && chosen.status === "completed";
      await on.reuse(chosen, await part("input"), drawn ? await part("mask") : null);
    } catch (fault) {
      showError(error, fault);
    }
  }

  byId("job-show-area").addEventListener("change", showArea);
  byId("job-delete").addEventListener("click", remove);
  byId("job-reuse").addEventListener("click", reuse);
  for (const button of root.querySelectorAll("[data-variant]")) {
    button.addEventListener("click", () => download(button.dataset.variant));
  }

  return { open, close, id: () => job?.id ?? null };
}

/** @returns {Promise<number|null>} */
async function countWaiting(signal) {
  try {
    return (await callJson("/health", { signal })).queued;
  } catch (fault) {
    if (signal.aborted) throw fault;
    return null; // only a detail
  }
}

/** What is worth saying aloud: each state, and each quarter of the way. */
function news(/** @type {Job|null} */ job) {
  if (!job) return "";
  if (job.status === "queued") return "Queued";
  if (job.status === "in_progress") return `${Math.floor(job.progress / 25) * 25} percent done`;
  return job.status === "completed" ? "The clip is ready" : "";
}

function failure(/** @type {Job} */ job) {
  return `No clip was made. ${sentence(job.error?.message) || "The service did not say why."}`;
}

/** @returns {Promise<string>} the value of the button that closed the dialog */
function answerOf(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}
