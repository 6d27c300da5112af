// Whether a key can be used, and if not, why.

import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { badge } from "../ui.js";

/** Whether an account has no tokens and at most so much money, where that matters. */
export const poor = ({ available, funds }, least = 0) =>
  session.mode === "prepaid" && Number(available) <= least && !funds.grants.some((grant) => grant.tokens_left > 0);

export const spent = ({ quota }) => Boolean(quota) && Number(quota.spent) >= Number(quota.amount);

/** The state of a key; `account`, if it is known, may stand in its way. */
export function keyState(key, account) {
  if (key.revoked_at) return badge("", t("revoked"), format.dateTime(key.revoked_at));
  if (!key.enabled) return badge("warn", t("disabled"));
  if (account && !account.enabled) return badge("warn", t("account disabled"));
  if (key.expires_at && new Date(key.expires_at) < new Date()) return badge("warn", t("expired"), format.dateTime(key.expires_at));
  if (spent(key)) return badge("warn", t("quota spent"));
  if (account && poor(account)) return badge("warn", t("account has no funds"));
  return badge("good", t("active"));
}
