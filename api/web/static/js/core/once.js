/** What is asked for is made once, however often a button is pressed until the server is heard. */
import { newKey, post } from "./api.js";

const unknown = new Map(); // path and body -> the key of a request that may have been done

/**
 * POST what makes something. Where the server is not heard (a lost connection, a proxy's 504) it may be made all the same: then
 * the next request for the same has the same key, until an answer tells that it is done or refused.
 */
export async function postOnce(path, body) {
  const asked = JSON.stringify([path, body]);
  const key = unknown.get(asked) ?? newKey();
  unknown.set(asked, key);
  try {
    const made = await post(path, body, { key });
    unknown.delete(asked);
    return made;
  } catch (problem) {
    if (isRefused(problem)) unknown.delete(asked);
    throw problem;
  }
}

/** 408 and 429 are said before a request is looked at: nothing of one that was sent before. */
function isRefused({ status }) {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}
