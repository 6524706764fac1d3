/** @file What went wrong, said where it went wrong; and waiting for a busy service in sight. */

import { ApiError } from "./api.js";
import { isAbort, sleep } from "./dom.js";

/**
 * @param {HTMLElement} place an element with role=alert
 * @param {unknown} error in words already, or whatever was thrown
 */
export function showError(place, error) {
  if (isAbort(error)) return;
  const words = wordsOf(error);
  if (place.textContent !== words) place.textContent = words; // set again it would be read again
  mark(place, true);
}

function wordsOf(error) {
  if (typeof error === "string") return error;
  if (error instanceof ApiError) return error.message;
  console.error(error);
  return "Something went wrong in this page. Reload it and try again.";
}

/** @param {HTMLElement} place */
export function clearNotice(place) {
  place.textContent = "";
  mark(place, false);
}

/** Fields that are described by a notice are invalid while it says something. */
function mark(place, invalid) {
  const field = place.id && document.querySelector(`[aria-describedby~="${place.id}"]`);
  if (!field) return;
  if (invalid) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

/**
 * Do something; while the service says that it is busy, count down and try again.
 * @template T
 * @param {() => Promise<T>} action
 * @param {HTMLElement} place where the countdown and its Cancel button appear
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export async function patiently(action, place, signal) {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof ApiError) || error.retryAfter === null) throw error;
      await countDown(error, place, signal);
    }
  }
}

/**
 * @param {ApiError} error
 * @param {HTMLElement} place
 * @param {AbortSignal} [signal]
 */
async function countDown(error, place, signal) {
  signal?.throwIfAborted();
  const ended = new AbortController(); // AbortSignal.any would ask for newer browsers
  signal?.addEventListener("abort", () => ended.abort(), { once: true, signal: ended.signal });
  const clock = document.createElement("span");
  clock.setAttribute("role", "timer");
  clock.setAttribute("aria-live", "off"); // the alert is read once, not every second
  const cancel = document.createElement("button");
  cancel.type = "button";
  cancel.textContent = "Cancel";
  cancel.addEventListener("click", () => ended.abort());
  place.replaceChildren(`${error.message} `, clock, " ", cancel);
  place.classList.add("waiting");
  const due = Date.now() + (error.retryAfter ?? 0) * 1000;
  try {
    for (let left = due - Date.now(); left > 0; left = due - Date.now()) {
      clock.textContent = `Trying again in ${Math.ceil(left / 1000)} s.`;
      await sleep(Math.min(left, 250), ended.signal);
    }
  } finally {
    ended.abort(); // takes the listener away
    place.classList.remove("waiting");
    clearNotice(place);
  }
}
