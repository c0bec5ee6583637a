/** What is asked for is made once, however often a button is pressed until the server is heard. */
import { newKey, post } from "./api.js";

// A button is pressed again for want of an answer within minutes; whoever presses it later than that wants another one.
const KEPT_MS = 10 * 60_000;
const unknown = new Map(); // path and body -> {key, at} of a request that may have been done; at: when it was last tried

/**
 * POST what makes something. Where the server is not heard (a lost connection, a proxy's 504) it may be made all the same: then
 * the next request for the same has the same key, until an answer tells that it is done or refused, or ten minutes have passed.
 */
export async function postOnce(path, body) {
  const asked = JSON.stringify([path, body]);
  const sent = recent(asked) ?? { key: newKey() };
  sent.at = Infinity; // it is under way
  unknown.set(asked, sent);
  try {
    const made = await post(path, body, { key: sent.key });
    unknown.delete(asked);
    return made;
  } catch (problem) {
    if (isRefused(problem)) unknown.delete(asked);
    else sent.at = Date.now(); // performance.now() may stand still while the computer sleeps
    throw problem;
  }
}

function recent(asked) {
  const sent = unknown.get(asked);
  return sent && Date.now() - sent.at < KEPT_MS ? sent : null;
}

const EARLY = [401, 408, 429]; // said before a request is looked at

/** What is said early, or by a proxy, tells nothing of a request that was sent before. */
function isRefused({ status, ours }) {
  return ours && status >= 400 && status < 500 && !EARLY.includes(status);
}
