// Signing in with the admin key or an API key; the gateway says which one it is.

import { ApiError, get } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { preferences } from "../shell.js";
import { field, form, input } from "../ui.js";

const ROLES = { admin: "/admin/api/keys?limit=1", holder: "/v1/key" };

async function roleOf(key) {
  const order = key.startsWith("sk-sluice-") ? ["holder", "admin"] : ["admin", "holder"];
  if (!/^[!-~]+$/.test(key)) order.length = 0; // What is no text for a header is nobody's key.
  let first;
  for (const role of order) {
    try {
      await get(ROLES[role], {}, { key });
      return role;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
      first ??= error;
    }
  }
  throw new ApiError(t("This key is not accepted. Check that it is whole."), first);
}

export function signIn(open) {
  document.title = `${t("Sign in")} · Sluice`;
  const key = input("key", { type: "password", required: true, autocomplete: "current-password", spellcheck: "false" });
  const body = form(
    [
      h("input", { type: "text", name: "username", autocomplete: "username", value: "sluice", hidden: true, "aria-hidden": "true" }),
      field(t("Key"), key, t("The admin key (sk-admin-…) opens everything, an API key (sk-sluice-…) its own view.")),
    ],
    t("Sign in"),
    async () => {
      const given = key.value.trim();
      session.signIn(given, await roleOf(given));
      await open();
    },
  );
  const brand = h("p", { class: "brand" }, h("img", { src: "icon.svg", alt: "", width: 32, height: 32 }), "Sluice");
  const lost = h(
    "p",
    { class: "quiet" },
    t("Both were printed at the first start. A lost admin key is replaced by"),
    " ",
    h("code", {}, "python -m proxy reset-admin-key"),
    ".",
  );
  const kept = h("p", { class: "quiet" }, t("The key stays in this tab and is forgotten when you close it."));
  replace(
    document.getElementById("app"),
    h("main", { class: "signin" }, brand, h("h1", {}, t("Sign in")), body, kept, lost, preferences(open)),
  );
  key.focus();
}
