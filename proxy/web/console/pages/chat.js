// The test chat: a real request through the gateway, with what it took and what it cost.

import { admin, ApiError, get, own } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { markdown } from "../markdown.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { streamChat } from "../stream.js";
import { empty, field, input, problem, select, show } from "../ui.js";

const RECEIPT_TRIES = 5;

export default async function chat({ element, query, signal }) {
  const holder = h("div", {});
  replace(element, heading(t("Test chat"), t("Every message is a real request: it is limited, recorded and billed like any other.")), holder);
  await show(holder, load, ({ models, keys }) => room(models, keys, query, signal));
}

async function load() {
  const [models, keys] = await Promise.all([
    session.isAdmin ? admin.get("/models") : get("/v1/models"),
    session.isAdmin ? admin.all("/keys") : [],
  ]);
  const usable = models.data.filter((model) => !model.id.includes("*") && (!model.routes || model.routes.some((route) => route.active)));
  return { models: usable, keys: keys.filter((key) => !key.revoked_at && key.enabled) };
}

function room(models, keys, query, signal) {
  if (!models.length) return empty(t("No model can be called"), t("Give a provider its key in the configuration."));
  if (session.isAdmin && !keys.length) return empty(t("No key can be used"), t("Create one first; the chat is billed to it."), h("a", { href: "#/keys" }, t("Keys")));
  const names = models.map((model) => model.id);
  const model = select("model", names.map((name) => [name, name]), names.includes(query.get("model")) ? query.get("model") : names[0]);
  const key = session.isAdmin && select("key", keys.map((item) => [item.id, `${item.name} (${item.account})`]), query.get("key") ?? keys.at(-1).id);
  const system = h("textarea", { name: "system", rows: 3 });
  const temperature = input("temperature", { type: "number", min: 0, max: 2, step: 0.1 });
  const most = input("max_tokens", { type: "number", min: 1, step: 1 });
  const text = h("textarea", { name: "message", rows: 3, required: true });
  const conversation = h("div", { class: "conversation", role: "log", "aria-label": t("Conversation") });
  const go = h("button", { type: "submit", class: "primary" }, t("Send"));
  const stop = h("button", { type: "button", hidden: true }, t("Stop"));
  const live = h("span", { class: "facts" });
  const clear = h("button", { type: "button", class: "plain", onclick: () => (messages.splice(0), start()) }, t("New conversation"));
  const messages = [];
  let running;
  const start = () => replace(conversation, empty(t("Say something"), t("The answer comes as it is written, with tokens, cost and time below it.")));
  start();
  signal.addEventListener("abort", () => running?.abort());
  stop.addEventListener("click", () => running?.abort());
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      composer.requestSubmit();
    }
  });
  const composer = h("form", { class: "composer" }, field(t("Message"), text, t("Enter sends, Shift and Enter begin a new line")), h("div", { class: "actions" }, go, stop, clear, live));
  composer.addEventListener("submit", (event) => {
    event.preventDefault();
    const said = text.value.trim();
    if (!said || running) return;
    if (!messages.length) replace(conversation);
    text.value = "";
    messages.push({ role: "user", content: said });
    conversation.append(h("article", { class: "turn user" }, h("h3", {}, t("You")), h("div", { class: "text" }, h("p", {}, said))));
    answer(said);
  });

  async function answer(said) {
    running = new AbortController();
    go.disabled = true;
    stop.hidden = false;
    const turn = new Turn(model.value);
    conversation.append(turn.element);
    const body = { model: model.value, messages: [...(system.value.trim() ? [{ role: "system", content: system.value }] : []), ...messages] };
    if (temperature.value !== "") body.temperature = Number(temperature.value);
    if (most.value !== "") body.max_tokens = Number(most.value);
    const path = session.isAdmin ? `/admin/api/keys/${key.value}/chat` : "/v1/chat/completions";
    try {
      await streamChat(path, body, running.signal, (part) => {
        turn.add(part);
        live.textContent = turn.pace();
        turn.element.scrollIntoView({ block: "nearest" });
      });
    } catch (error) {
      turn.fail(error);
    }
    // What was stopped stays part of the conversation, as far as it came.
    if (turn.content) messages.push({ role: "assistant", content: turn.content });
    else {
      messages.pop();
      text.value ||= said;
    }
    running = undefined;
    go.disabled = false;
    stop.hidden = true;
    live.textContent = "";
    text.focus();
    await turn.account();
  }

  const aside = h(
    "aside",
    { class: "card", "aria-label": t("Settings") },
    key && field(t("Key"), key, t("The request runs with its limits, and its account pays")),
    field(t("Model"), model),
    h("details", { open: matchMedia("(min-width: 901px)").matches }, h("summary", {}, t("Settings")), h("div", { class: "list" }, field(t("System prompt"), system), field(t("Temperature"), temperature, t("Empty: the model's own")), field(t("Output tokens at most"), most, t("Empty: no limit of yours")))),
  );
  return h("div", { class: "chat" }, h("div", {}, conversation, composer), aside);
}

/** One answer, while it comes and after. */
class Turn {
  constructor(model) {
    this.content = "";
    this.reasoning = "";
    this.began = performance.now();
    this.pieces = 0;
    this.text = h("div", { class: "text" }, h("p", { class: "quiet" }, t("Waiting for the first words…")));
    this.thoughts = h("p", { class: "quiet" });
    this.folded = h("details", { hidden: true }, h("summary", {}, t("Reasoning")), this.thoughts);
    this.facts = h("p", { class: "facts" });
    this.element = h("article", { class: "turn" }, h("h3", {}, model), this.folded, this.text, this.facts);
  }

  add({ about, content = "", reasoning = "" }) {
    if (about) this.about = about;
    if (!content && !reasoning) return;
    this.first ??= performance.now();
    this.pieces += 1;
    this.content += content;
    this.reasoning += reasoning;
    if (reasoning) {
      this.folded.hidden = false;
      this.thoughts.textContent = this.reasoning;
    }
    // Drawn once a frame, however fast it comes.
    this.drawing ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.drawing = undefined;
    if (this.content) replace(this.text, markdown(this.content));
  }

  pace() {
    const seconds = (performance.now() - this.first) / 1000;
    return seconds > 0.3 ? t("about {count} tokens per second", { count: Math.round(this.pieces / seconds) }) : "";
  }

  fail(error) {
    if (error.name === "AbortError") this.element.append(h("p", { class: "quiet" }, t("Stopped. What had come is charged.")));
    else this.element.append(problem(error));
    if (!this.content) replace(this.text);
    this.about ??= error.requestId ? { requestId: error.requestId } : null;
    this.refused = error instanceof ApiError && error.status > 0;
  }

  /** Show what the receipt says; it is there a moment after the end. */
  async account() {
    const id = this.about?.requestId;
    if (!id) return;
    for (let attempt = 0; attempt < RECEIPT_TRIES; attempt += 1) {
      try {
        this.tell(await get(`${own()}/requests/${id}`));
        return;
      } catch (error) {
        if (error.status !== 404 || this.refused) return;
        await new Promise((done) => setTimeout(done, 100 * 2 ** attempt));
      }
    }
  }

  tell(item) {
    const { usage } = item;
    replace(
      this.facts,
      h("span", {}, t("{in} tokens in, {out} out", { in: format.number(usage.input_tokens), out: format.number(usage.output_tokens) })),
      h("span", {}, format.money(item.cost)),
      h("span", {}, format.milliseconds(item.timings.total_ms)),
      item.provider && h("span", {}, item.provider),
      h("a", { href: `#/requests/${item.id}` }, t("Receipt")),
    );
    this.element.scrollIntoView({ block: "nearest" });
  }
}
