// The gateway's own API: the key as Bearer, JSON in and out, errors with the gateway's words.

import { session } from "./session.js";
import { t } from "./i18n.js";

export class ApiError extends Error {
  constructor(message, { status = 0, code = "", requestId = "" } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }
}

let onSignedOut = () => {};

/** Say what happens when the key is no longer accepted. */
export function whenSignedOut(act) {
  onSignedOut = act;
}

/** Send a request with the key of the session; return the Response, or throw an ApiError. */
export async function send(method, path, { body, headers = {}, signal, key = session.key } = {}) {
  const given = { ...headers };
  if (key) given.authorization = `Bearer ${key}`;
  if (body !== undefined) given["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: given,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(t("The gateway did not answer. Is it running? Nothing was changed on this page."));
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  let described = {};
  try {
    described = (await response.json()).error ?? {};
  } catch {
    // Not the gateway's own answer: something stands between.
  }
  const error = new ApiError(described.message ?? `HTTP ${response.status} ${response.statusText}`, {
    status: response.status,
    code: described.code ?? "",
    requestId: response.headers.get("x-request-id") ?? described.request_id ?? "",
  });
  return error;
}

async function json(method, path, options) {
  try {
    return await (await send(method, path, options)).json();
  } catch (error) {
    // Only the session's own key ends the session, not that of a key that is tried out.
    if (error instanceof ApiError && error.status === 401 && !options?.key) onSignedOut(error);
    throw error;
  }
}

/** Return a path with a query; empty members are left out. */
export function withQuery(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export const get = (path, query, options) => json("GET", withQuery(path, query), options);
export const post = (path, body, options) => json("POST", path, { ...options, body });
export const patch = (path, body) => json("PATCH", path, { body });
export const remove = (path) => json("DELETE", path);

const ADMIN = "/admin/api";
export const admin = {
  get: (path, query) => get(ADMIN + path, query),
  post: (path, body) => post(ADMIN + path, body),
  patch: (path, body) => patch(ADMIN + path, body),
  remove: (path) => remove(ADMIN + path),

  /** Return all pages of a list, up to `most` items. */
  async all(path, most = 5000) {
    const found = [];
    let cursor = "";
    do {
      const page = await get(ADMIN + path, { limit: 1000, cursor });
      found.push(...page.data);
      cursor = page.next_cursor;
    } while (cursor && found.length < most);
    return found;
  },

  /** A call that moves money: repeated with the same `once`, it is done once. */
  money: (account, call, body, once) =>
    post(`${ADMIN}/accounts/${encodeURIComponent(account)}/${call}`, body, { headers: { "idempotency-key": once } }),
};

/** Return the name below which the session's own models, usage and receipts are. */
export const own = () => (session.isAdmin ? ADMIN : "/v1");
