/** @file The service's facts in a person's words. */

/**
 * A job as the service tells of it.
 * @typedef {object} Job
 * @property {string} id
 * @property {"queued"|"in_progress"|"completed"|"failed"} status
 * @property {number} progress 0 to 100
 * @property {number} created_at seconds since 1970
 * @property {number|null} completed_at
 * @property {number|null} expires_at
 * @property {string} size "WxH"
 * @property {number} duration_s
 * @property {number} num_frames
 * @property {string} prompt
 * @property {number} seed
 * @property {number} guidance_scale
 * @property {number} num_inference_steps
 * @property {number|null} mask_steps null where the motion area was given
 * @property {number} attempts
 * @property {{code: string, message: string}|null} error
 */

/** @param {Job} job */
export function isUnfinished(job) {
  return job.status === "queued" || job.status === "in_progress";
}

/** @param {Job} job */
export function statusWords(job) {
  if (job.status === "queued") return "Queued";
  if (job.status === "in_progress") return `${Math.round(job.progress)} %`;
  return job.status === "completed" ? "Done" : "Failed";
}

/**
 * What a running job is at: stage 1's steps come first, unless the area was given.
 * @param {Job} job
 * @param {number|null} waiting jobs that are queued in all, where known
 */
export function stepWords(job, waiting) {
  if (job.status === "queued") return waiting && waiting > 1 ? `Queued; ${waiting} wait in all.` : "Queued.";
  const first = job.mask_steps ?? 0;
  const all = first + job.num_inference_steps;
  const done = Math.round((job.progress / 100) * all);
  const again = job.attempts > 1 ? ` Begun anew after a fault, attempt ${job.attempts}.` : "";
  // The service holds back the last percent until the files are there.
  if (job.progress >= 99 || done >= all) return `Writing the clip.${again}`;
  return done < first
    ? `Motion area: step ${done + 1} of ${first}.${again}`
    : `Clip: step ${done - first + 1} of ${job.num_inference_steps}.${again}`;
}

/** @param {Job} job */
export function settingsWords(job) {
  const area = job.mask_steps === null ? "given motion area" : `${job.mask_steps} mask steps`;
  return [
    job.size.replace("x", " × "),
    `${Number(job.duration_s.toFixed(3))} s`,
    `seed ${job.seed}`,
    `${job.num_inference_steps} steps`,
    area,
    `guidance ${job.guidance_scale}`,
  ].join(" · ");
}

/** @param {number} created seconds since 1970 */
export function age(created) {
  const seconds = Math.max(0, Date.now() / 1000 - created);
  const words = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });
  if (seconds < 60) return "just now";
  if (seconds < 3600) return words.format(-Math.floor(seconds / 60), "minute");
  if (seconds < 86400) return words.format(-Math.floor(seconds / 3600), "hour");
  return words.format(-Math.floor(seconds / 86400), "day");
}

/**
 * @param {string} size "WxH"
 * @returns {{width: number, height: number}|null} null where it cannot be a clip's size
 */
export function parseSize(size) {
  const match = /^\s*(\d{1,4})\s*x\s*(\d{1,4})\s*$/i.exec(size);
  const [width, height] = match ? [Number(match[1]), Number(match[2])] : [0, 0];
  return width && height ? { width, height } : null;
}

/**
 * A message of the service as a sentence; nothing where there is none.
 * @param {unknown} text
 */
export function sentence(text) {
  if (typeof text !== "string" || !text.trim()) return "";
  const whole = text.trim();
  return whole[0].toUpperCase() + whole.slice(1) + (/[.!?]$/.test(whole) ? "" : ".");
}
