// Set up a tool: the exact files and commands, with the key in use.

import { admin, get } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { checker, NO_KEY, readTools, steps } from "../tools.js";
import { field, input, select, show } from "../ui.js";

export default async function setup({ element, query, setQuery }) {
  const body = h("div", { class: "list" });
  replace(element, heading(t("Set up a tool"), t("Pick a tool and a model; copy what it needs.")), body);
  const base = query.get("base_url") ?? location.origin;
  const load = () => Promise.all([readTools({ model: query.get("model"), base_url: base }), session.isAdmin ? admin.get("/models") : get("/v1/models")]);
  await show(body, load, ([tools, models]) => {
    const names = models.data.map((model) => model.id).filter((id) => !id.includes("*"));
    const tool = tools.find((one) => one.name === query.get("tool")) ?? tools[0];
    return page(tools, tool, names, query.get("model") ?? names[0] ?? "MODEL", base, setQuery);
  });
}

function page(tools, tool, names, model, base, setQuery) {
  // An administrator has no API key at hand: one that was just made is here, any other may be pasted.
  const key = input("key", { type: "password", placeholder: NO_KEY, value: session.toolKey });
  const given = () => (session.isAdmin ? session.toolKey : session.key);
  const list = h("div", { class: "list" });
  const draw = () => replace(list, steps(tool, given()));
  key.addEventListener("input", () => {
    session.toolKey = key.value.trim();
    draw();
  });
  draw();
  const choice = (name, title, options, value) => field(title, select(name, options, value, { onchange: (event) => setQuery({ [name]: event.target.value }) }));
  const address = input("base_url", { type: "url", value: base, onchange: (event) => setQuery({ base_url: event.target.value.replace(/\/+$/, "") }) });
  return [
    h(
      "div",
      { class: "filters" },
      choice("tool", t("Tool"), tools.map((one) => [one.name, one.title]), tool.name),
      names.length > 0 && choice("model", t("Model"), [...new Set([model, ...names])].map((name) => [name, name]), model),
      field(t("Address of this gateway"), address, null, "grow"),
      session.isAdmin && field(t("API key"), key, t("Filled in below; forgotten with this tab"), "grow"),
    ),
    h(
      "section",
      { class: "card" },
      h("h2", {}, tool.title),
      tool.needs_public_address && h("p", { class: "notice warn" }, t("This tool calls from its own servers: the gateway needs a public https address.")),
      list,
      tool.dialect && checker(tool.dialect, model, given),
    ),
  ];
}
