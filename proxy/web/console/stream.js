// Reads a chat completion that is streamed: server-sent events over fetch.

import { ApiError, send } from "./api.js";

/** Call `on` with {content, reasoning} as they come; return {requestId, provider} at the end. */
export async function streamChat(path, body, signal, on) {
  const response = await send("POST", path, { body: { ...body, stream: true }, signal });
  const about = {
    requestId: response.headers.get("x-request-id"),
    provider: response.headers.get("x-sluice-provider"),
  };
  on({ about });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return about;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (!data || data === "[DONE]") continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message, { code: chunk.error.code, requestId: about.requestId });
      const delta = chunk.choices?.[0]?.delta ?? {};
      on({ content: delta.content ?? "", reasoning: delta.reasoning_content ?? delta.reasoning ?? "" });
    }
  }
}
