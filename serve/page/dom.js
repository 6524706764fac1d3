/** @file Small means that every module of the page uses. */

/**
 * The element of this id; its absence is a mistake in the page, told at once.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element "${id}"`);
  return element;
}

/**
 * The first element in a copy of a template.
 * @param {string} id
 * @returns {any}
 */
export function copyOf(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} [signal] ends the wait with its reason
 * @returns {Promise<void>}
 */
export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Whether an error only says that the user, or a newer request, ended the work. */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}
