// Chat Completions through the openai SDK for Node: whole, and by the helper that streams and runs tools.
import { readFile } from "node:fs/promises";
import OpenAI from "openai";

const { MODEL: model, PROMPT } = process.env;
const client = new OpenAI({ maxRetries: 0 });
const readHalf = ({ name }) => readFile(`${name}.txt`, "utf8");
const parameters = {
  type: "object",
  properties: { name: { type: "string", enum: ["first", "second"] } },
  required: ["name"],
  additionalProperties: false,
};
const declared = { name: "read_half", description: "Reads one half of the token.", parameters };

async function whole() {
  const messages = [{ role: "user", content: PROMPT }];
  const tools = [{ type: "function", function: declared }];
  for (;;) {
    const answer = await client.chat.completions.create({ model, messages, tools });
    const message = answer.choices[0].message;
    if (!message.tool_calls) return message.content;
    messages.push(message);
    for (const call of message.tool_calls) {
      const content = await readHalf(JSON.parse(call.function.arguments));
      messages.push({ role: "tool", tool_call_id: call.id, content });
    }
  }
}

function helper() {
  const runnable = { ...declared, parse: JSON.parse, function: readHalf };
  const messages = [{ role: "user", content: PROMPT }];
  const tools = [{ type: "function", function: runnable }];
  return client.chat.completions.runTools({ model, messages, tools, stream: true }).finalContent();
}

console.log("whole:", await whole());
console.log("helper:", await helper());
