// Messages through the anthropic SDK for Node: whole, by the stream helper, and a count of tokens.
import { readFile } from "node:fs/promises";
import Anthropic from "@anthropic-ai/sdk";

const { MODEL: model, PROMPT } = process.env;
const client = new Anthropic({ maxRetries: 0 });
const input_schema = {
  type: "object",
  properties: { name: { type: "string", enum: ["first", "second"] } },
  required: ["name"],
};
const tools = [{ name: "read_half", description: "Reads one half of the token.", input_schema }];

const whole = (messages) => client.messages.create({ model, messages, tools, max_tokens: 1000 });
const helper = (messages) => client.messages.stream({ model, messages, tools, max_tokens: 1000 }).finalMessage();

async function converse(ask) {
  const messages = [{ role: "user", content: PROMPT }];
  for (;;) {
    const { role, content } = await ask(messages);
    const calls = content.filter((block) => block.type === "tool_use");
    if (!calls.length) return content.map((block) => block.text ?? "").join("");
    messages.push({ role, content });
    const results = calls.map(async ({ id, input }) => ({
      type: "tool_result",
      tool_use_id: id,
      content: await readFile(`${input.name}.txt`, "utf8"),
    }));
    messages.push({ role: "user", content: await Promise.all(results) });
  }
}

console.log("whole:", await converse(whole));
console.log("helper:", await converse(helper));
const count = await client.messages.countTokens({ model, messages: [{ role: "user", content: PROMPT }], tools });
if (!(count.input_tokens > 0)) throw new Error(`counted ${count.input_tokens} tokens`);
