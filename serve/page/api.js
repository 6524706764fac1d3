/** @file The service's interface: calls with the key, and refusals as errors in words. */

import { sentence } from "./words.js";

const KEY = "handi-api-key";

/** @type {(refused: boolean) => Promise<string|null>} */
let askForKey = async () => null;
/** @type {string|null} The key, where the browser's settings forbid storage. */
let unstored = null;
/** @type {Promise<void>|null} One question for all calls that lack a key. */
let asking = null;

/** A refusal. `status` is 0 where no answer came at all. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, param?: string|null, retryAfter?: number|null}} [facts]
   *   `param` names the field at fault; `retryAfter` is in seconds
   */
  constructor(message, { status = 0, param = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

/**
 * How the user is asked for a key; null when they decline.
 * @param {(refused: boolean) => Promise<string|null>} ask
 */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/**
 * Call the service. An answer of 401 asks for a key and goes on with it.
 * @param {string} path
 * @param {{method?: string, body?: FormData, signal?: AbortSignal}} [options]
 * @param {(answer: Response) => Promise<any>} read a success, as far as the body goes
 * @throws {ApiError}
 */
async function call(path, options = {}, read) {
  for (;;) {
    const key = storedKey();
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
      if (answer.ok) return await read(answer); // the network can be lost in the body too
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new ApiError("The service cannot be reached. Is the network up?");
    }
    if (answer.status !== 401) throw await refusal(answer);
    // While this call was under way another may have obtained the key.
    if (storedKey() === key) await obtainKey(key !== null);
  }
}

/**
 * @param {string} path
 * @param {{method?: string, body?: FormData, signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export function callJson(path, options) {
  return call(path, options, (answer) => answer.json());
}

/**
 * @param {string} path
 * @param {{method?: string, body?: FormData, signal?: AbortSignal}} [options]
 * @returns {Promise<Blob>}
 */
export function callBlob(path, options) {
  return call(path, options, (answer) => answer.blob());
}

/**
 * @param {string} id
 * @param {"video"|"gif"|"mask"|"keypoints"|"input"} variant
 * @param {AbortSignal} [signal]
 */
export function content(id, variant, signal) {
  return callBlob(`/v1/videos/${encodeURIComponent(id)}/content?variant=${variant}`, { signal });
}

/** @param {boolean} refused whether a key was sent and not accepted */
async function obtainKey(refused) {
  asking ??= askForKey(refused)
    .then(storeKey)
    .finally(() => (asking = null));
  await asking;
}

function storedKey() {
  try {
    return sessionStorage.getItem(KEY) ?? unstored;
  } catch {
    return unstored;
  }
}

/** @param {string|null} key null where the user declined */
function storeKey(key) {
  if (key === null) throw new ApiError("This service asks for an API key.", { status: 401 });
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    unstored = key;
  }
  window.dispatchEvent(new Event("handi-key")); // for what gave up without one
}

/** @param {Response} answer */
async function refusal(answer) {
  const { status } = answer;
  let error = null;
  try {
    error = (await answer.json()).error;
  } catch {
    // Not the service itself but something before it answered: the status must do.
  }
  const busy = status === 429 || status === 503;
  const seconds = Number(answer.headers.get("Retry-After"));
  // Said beside the field, the message need not name it.
  const message = String(error?.message ?? "").replace(`${error?.param}: `, "");
  return new ApiError(sentence(message) || WORDS[status] || `The service failed (${status}).`, {
    status,
    param: error?.param ?? null,
    retryAfter: busy ? Math.min(Math.max(Math.ceil(seconds) || 5, 1), 600) : null,
  });
}

const WORDS = {
  404: "This is not there, or not any more.",
  413: "The picture's file is too large for the service.",
  429: "Too many requests.",
  503: "The service is busy.",
};
