// Who is signed in. The key stays in this tab: sessionStorage, no cookie, gone when the tab closes.

const KEY = "sluice.key";
const ROLE = "sluice.role";

export const session = {
  get key() {
    return sessionStorage.getItem(KEY);
  },
  get isAdmin() {
    return sessionStorage.getItem(ROLE) === "admin";
  },
  /** Whether the gateway has said the following; until then no page is drawn. */
  known: false,
  currency: "",
  mode: "",
  timezone: "",
  plans: {},
  /** An API key to set up a tool with: in memory, until signing out or loading the page again. */
  toolKey: "",

  signIn(key, role) {
    sessionStorage.setItem(KEY, key);
    sessionStorage.setItem(ROLE, role);
  },
  learn({ currency, mode, timezone, plans = {} }) {
    Object.assign(this, { known: true, currency, mode, timezone, plans });
  },
  signOut() {
    sessionStorage.removeItem(KEY);
    sessionStorage.removeItem(ROLE);
    this.toolKey = "";
    this.known = false;
  },
};
