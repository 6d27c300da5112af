// How client tools are set up: what the gateway says, with an API key put in; and whether it works so.

import { admin, get, send } from "./api.js";
import { h, replace } from "./dom.js";
import * as format from "./format.js";
import { t } from "./i18n.js";
import { codeBlock, inline } from "./markdown.js";
import { session } from "./session.js";
import { button, problem } from "./ui.js";

const PLACE = "{{KEY}}";
export const NO_KEY = "sk-sluice-…";
/** Any other key could end the quotes that it is put between. */
const PLAIN = /^[\w-]+$/;

export const readTools = async (query) => (await get(session.isAdmin ? "/admin/api/clients" : "/v1/clients", query)).data;

/** Return those of all models that an API key may call. */
export function modelsFor(key, models) {
  const may = (globs, name) => globs === null || globs.some((glob) => pattern(glob).test(name));
  const serves = (route) => route.active && may(key.providers, route.provider);
  return models.filter((model) => !model.id.includes("*") && may(key.models, model.id) && model.routes.some(serves));
}

export const answers = (model) => model.category !== "embedding";

/** Return a model that an API key may call, for examples. */
export async function modelFor(key) {
  const usable = modelsFor(key, (await admin.get("/models")).data);
  return (usable.find(answers) ?? usable[0])?.id;
}

const pattern = (glob) => new RegExp(`^${glob.split("*").map((part) => part.replace(/[^\w]/g, "\\$&")).join(".*")}$`, "s");

/** What is to be done for a tool, as a list with something to copy. */
export function steps(tool, key) {
  const filled = (text) => text.replaceAll(PLACE, () => (PLAIN.test(key) ? key : NO_KEY));
  return [
    h(
      "ol",
      { class: "steps" },
      tool.steps.map((step) =>
        h("li", { class: "list" }, h("p", {}, inline(filled(t(step.text)))), step.content !== null && codeBlock(filled(step.content), step.file ?? step.language)),
      ),
    ),
    tool.notes.map((note) => h("p", { class: "quiet" }, inline(filled(t(note))))),
  ];
}

const MOST_TOKENS = 16;
const HELLO = "Say hello.";
const CHECKS = {
  chat: ["/v1/chat/completions", { max_tokens: MOST_TOKENS, messages: [{ role: "user", content: HELLO }] }],
  messages: ["/v1/messages", { max_tokens: MOST_TOKENS, messages: [{ role: "user", content: HELLO }] }],
  responses: ["/v1/responses", { max_output_tokens: MOST_TOKENS, input: HELLO }],
};

/** A button that makes one tiny request as a tool would, and what came of it. */
export function checker(dialect, model, key) {
  const [path, body] = CHECKS[dialect];
  const result = h("div", { "aria-live": "polite" });
  const act = async () => {
    if (!PLAIN.test(key)) {
      replace(result, h("p", { class: "notice warn" }, t("An API key is missing: paste one above, or create one.")));
      return;
    }
    replace(result, h("p", { class: "quiet" }, t("Asking…")));
    const began = performance.now();
    const response = await send("POST", path, { body: { model, ...body }, key });
    const answer = await response.json();
    replace(result, works(response.headers, answer.usage ?? {}, performance.now() - began));
  };
  return [
    h("div", { class: "actions" }, button(t("Check"), act, { fail: (error) => replace(result, problem(error)) }), h("span", { class: "hint" }, t("One tiny request to {path} with this key and model; it is billed like any other.", { path }))),
    result,
  ];
}

function works(headers, usage, taken) {
  const [input, output] = [usage.prompt_tokens ?? usage.input_tokens, usage.completion_tokens ?? usage.output_tokens];
  return h(
    "div",
    { class: "notice good" },
    h("p", { class: "strong" }, t("It works: {model} answered, from {provider}.", { model: headers.get("x-sluice-model"), provider: headers.get("x-sluice-provider") })),
    facts({ id: headers.get("x-request-id"), input, output, cost: headers.get("x-sluice-cost"), taken }),
  );
}

/** What a request took, and where its receipt is. */
export const facts = ({ id, input, output, cost, taken, provider }) =>
  h(
    "p",
    { class: "facts" },
    input !== undefined && h("span", {}, t("{in} tokens in, {out} out", { in: format.number(input), out: format.number(output) })),
    cost && h("span", {}, format.money(cost)),
    h("span", {}, format.milliseconds(taken)),
    provider && h("span", {}, provider),
    h("a", { href: `#/requests/${id}` }, t("Receipt")),
  );
