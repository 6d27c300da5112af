// Set up a tool: the exact files and commands, with the key in use.

import { admin, get } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { checker, NO_KEY, readTools, steps } from "../tools.js";
import { field, input, select, show } from "../ui.js";

export default async function setup({ element, query, keepQuery }) {
  const body = h("div", { class: "list" });
  replace(element, heading(t("Set up a tool"), t("Pick a tool and a model; copy what it needs.")), body);
  // Not from the query: whoever made a link would say where the key is sent.
  const given = { tool: query.get("tool"), model: query.get("model"), base_url: location.origin };
  const load = () => Promise.all([readTools({ model: given.model }), session.isAdmin ? admin.get("/models") : get("/v1/models")]);
  await show(body, load, ([tools, models]) => page(tools, models.data, given, keepQuery));
}

function page(tools, models, given, keepQuery) {
  const names = models.map((model) => model.id).filter((id) => !id.includes("*"));
  given.model ??= names[0] ?? "MODEL";
  const section = h("section", { class: "card" }, guide(tools, given));
  const change = (event) => {
    const { name, value, validity } = event.target;
    if (!validity.valid) return;
    given[name] = value;
    if (name !== "base_url") keepQuery({ [name]: value });
    const { model, base_url } = given;
    show(section, () => readTools({ model, base_url }), (found) => guide((tools = found), given));
  };
  const choice = (name, title, options) => field(title, select(name, options, given[name], { onchange: change }));
  const address = input("base_url", { type: "url", required: true, value: given.base_url, oninput: change });
  // An administrator has no API key at hand: one that was just made is here, any other may be pasted.
  const key = input("key", { type: "password", placeholder: NO_KEY, value: session.toolKey });
  key.addEventListener("input", () => {
    session.toolKey = key.value.trim();
    replace(section, guide(tools, given));
  });
  return [
    h(
      "div",
      { class: "filters" },
      choice("tool", t("Tool"), tools.map((one) => [one.name, one.title])),
      names.length > 0 && choice("model", t("Model"), [...new Set([given.model, ...names])].map((name) => [name, name])),
      field(t("Address of this gateway"), address, null, "grow"),
      session.isAdmin && field(t("API key"), key, [t("Filled in below; forgotten with this tab"), " · ", h("a", { href: "#/keys" }, t("Create a key"))], "grow"),
    ),
    section,
  ];
}

function guide(tools, given) {
  const tool = tools.find((one) => one.name === given.tool) ?? tools[0];
  const key = session.isAdmin ? session.toolKey : session.key;
  return [
    h("h2", {}, tool.title),
    tool.needs_public_address && h("p", { class: "notice warn" }, t("This tool calls from its own servers: the gateway needs a public https address.")),
    h("div", { class: "list" }, steps(tool, key)),
    tool.dialect && checker(tool.dialect, given.model, key),
  ];
}
