// Responses through the openai SDK for Node: whole, and by the stream helper.
import { readFile } from "node:fs/promises";
import OpenAI from "openai";

const { MODEL: model, PROMPT } = process.env;
const client = new OpenAI({ maxRetries: 0 });
const parameters = {
  type: "object",
  properties: { name: { type: "string", enum: ["first", "second"] } },
  required: ["name"],
  additionalProperties: false,
};
const tools = [
  { type: "function", name: "read_half", description: "Reads one half of the token.", strict: true, parameters },
];

const whole = (input) => client.responses.create({ model, input, tools, store: false });
const helper = (input) => client.responses.stream({ model, input, tools, store: false }).finalResponse();

async function converse(ask) {
  const input = [{ role: "user", content: PROMPT }];
  for (;;) {
    const response = await ask(input);
    const calls = response.output.filter((item) => item.type === "function_call");
    if (!calls.length) return response.output_text;
    input.push(...response.output);
    for (const call of calls) {
      const output = await readFile(`${JSON.parse(call.arguments).name}.txt`, "utf8");
      input.push({ type: "function_call_output", call_id: call.call_id, output });
    }
  }
}

console.log("whole:", await converse(whole));
console.log("helper:", await converse(helper));
