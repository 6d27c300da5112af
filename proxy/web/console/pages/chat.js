// The test chat: a real request through the gateway, with what it took and what it cost.

import { admin, ApiError, get, own } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { markdown } from "../markdown.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { streamChat } from "../stream.js";
import { answers, facts, modelsFor } from "../tools.js";
import { empty, field, input, options, problem, select, show } from "../ui.js";

const RECEIPT_TRIES = 5;
const NEAR = 48;

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
  const lasting = ({ expires_at: end }) => !end || new Date(end) > new Date();
  const usable = (model) => answers(model) && !model.id.includes("*") && (!model.routes || model.routes.some((route) => route.active));
  return {
    models: models.data.filter(usable),
    keys: keys.filter((key) => !key.revoked_at && key.enabled && lasting(key)).sort((one, other) => (other.last_used_at ?? "").localeCompare(one.last_used_at ?? "")),
  };
}

const names = (models) => (models.length ? models.map(({ id }) => [id, id]) : [["", t("No model can be called")]]);

function room(models, keys, query, signal) {
  if (!models.length) return empty(t("No model can be called"), t("Give a provider its key in the configuration."));
  if (session.isAdmin && !keys.length) return empty(t("No key can be used"), t("Create one first; the chat is billed to it."), h("a", { href: "#/keys" }, t("Keys")));
  const wanted = query.get("model");
  const may = (item) => modelsFor(item, models);
  const first = keys.find(({ id }) => id === query.get("key")) ?? keys.find((item) => may(item).some(({ id }) => !wanted || id === wanted)) ?? keys[0];
  const model = select("model", names(first ? may(first) : models), wanted);
  const key = first && select("key", keys.map((item) => [item.id, `${item.name} (${item.account})`]), first.id, {
    onchange: () => replace(model, options(names(may(keys.find(({ id }) => id === key.value))), model.value)),
  });
  const system = h("textarea", { name: "system", rows: 3 });
  const temperature = input("temperature", { type: "number", min: 0, max: 2, step: 0.1 });
  const most = input("max_tokens", { type: "number", min: 1, step: 1 });
  const text = h("textarea", { name: "message", rows: 3, required: true });
  const conversation = h("div", { class: "conversation", role: "log", "aria-label": t("Conversation") });
  const go = h("button", { type: "submit", class: "primary" }, t("Send"));
  const stop = h("button", { type: "button", hidden: true }, t("Stop"));
  const live = h("span", { class: "facts" });
  const clear = h("button", { type: "button", class: "plain", onclick: begin }, t("New conversation"));
  let messages;
  let running;
  begin();
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

  function begin() {
    running?.abort();
    messages = [];
    run(undefined);
    replace(conversation, empty(t("Say something"), t("The answer comes as it is written, with tokens, cost and time below it.")));
  }

  /** A screen reader reads an answer when it is whole. */
  function run(now) {
    running = now;
    go.disabled = Boolean(now);
    stop.hidden = !now;
    conversation.ariaBusy = now ? "true" : null;
    live.textContent = "";
  }

  async function answer(said) {
    const mine = new AbortController();
    const own = messages; // until another conversation is begun
    run(mine);
    const turn = new Turn(model.value);
    conversation.append(turn.element);
    scrollTo(0, document.documentElement.scrollHeight);
    const body = { model: model.value, messages: [...(system.value.trim() ? [{ role: "system", content: system.value }] : []), ...messages] };
    if (temperature.value !== "") body.temperature = Number(temperature.value);
    if (most.value !== "") body.max_tokens = Number(most.value);
    const path = session.isAdmin ? `/admin/api/keys/${key.value}/chat` : "/v1/chat/completions";
    try {
      await streamChat(path, body, mine.signal, (part) => {
        turn.add(part);
        live.textContent = turn.pace();
      });
    } catch (error) {
      turn.fail(error);
    }
    // What was stopped stays part of the conversation, as far as it came.
    if (turn.content) own.push({ role: "assistant", content: turn.content });
    else own.pop();
    if (own === messages) {
      if (!turn.content) text.value ||= said;
      run(undefined);
      if (document.activeElement === document.body || composer.contains(document.activeElement)) text.focus({ preventScroll: true });
    }
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

/** Draw, and stay at the end of the page if that is where the reader is. */
function follow(draw) {
  const page = document.documentElement;
  const there = scrollY + innerHeight > page.scrollHeight - NEAR;
  draw();
  if (there) scrollTo(0, page.scrollHeight);
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
    this.element = h("article", { class: "turn" }, h("h3", {}, model), this.folded, this.text);
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
    if (this.content) follow(() => replace(this.text, markdown(this.content)));
  }

  pace() {
    const seconds = (performance.now() - this.first) / 1000;
    return seconds > 0.3 ? t("about {count} tokens per second", { count: Math.round(this.pieces / seconds) }) : "";
  }

  fail(error) {
    if (error.name === "AbortError") this.element.append(h("p", { class: "quiet" }, this.about ? t("Stopped. The receipt says what is charged.") : t("Stopped. No answer had begun.")));
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

  tell({ id, usage, cost, timings, provider }) {
    follow(() => this.element.append(facts({ id, input: usage.input_tokens, output: usage.output_tokens, cost, taken: timings.total_ms, provider })));
  }
}
