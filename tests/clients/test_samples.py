"""Programs as providers print them in their documents; only base URL and key are exchanged."""

import asyncio
import json
import shutil
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.gateway import API_KEY, gateway
from tests.support.replies import chat_stream
from tests.support.upstream import Upstream

BODY = json.dumps({"model": "up/m", "messages": [{"role": "user", "content": "Hi"}], "stream": True})

PYTHON = """
    import json, requests
    answer = requests.post(
        "URL/chat/completions",
        headers={"Authorization": "Bearer KEY", "Content-Type": "application/json"},
        data=BODY, stream=True,
    )
    for line in answer.iter_lines(decode_unicode=True):
        if line.startswith("data: "):
            data = line[6:]
            if data == "[DONE]":
                break
            print(json.loads(data)["choices"][0]["delta"].get("content", ""), end="")
"""

NODE = """
    const answer = await fetch("URL/chat/completions", {
      method: "POST",
      headers: {Authorization: "Bearer KEY", "Content-Type": "application/json"},
      body: BODY,
    });
    let rest = "";
    for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
      rest += part;
      const lines = rest.split("\\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
        process.stdout.write(JSON.parse(line.slice(6)).choices[0].delta.content ?? "");
      }
    }
"""

JAVA = """
    import java.net.URI;
    import java.net.http.*;
    import java.util.regex.*;

    public class Sample {
        public static void main(String[] args) throws Exception {
            HttpRequest request = HttpRequest.newBuilder(URI.create("URL/chat/completions"))
                .header("Authorization", "Bearer KEY").header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(BODY)).build();
            Pattern content = Pattern.compile("\\"content\\": ?\\"([^\\"]*)\\"");
            HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofLines()).body()
                .filter(line -> line.startsWith("data: {"))
                .map(content::matcher).filter(Matcher::find).forEach(m -> System.out.print(m.group(1)));
        }
    }
"""

SHELL = """
    curl --silent --no-buffer URL/chat/completions -H 'Authorization: Bearer KEY' \\
      -H 'Content-Type: application/json' -d 'BODY' \\
      | sed -n 's/.*"content": *"\\([^"]*\\)".*/\\1/p' | tr -d '\\n'
"""

SAMPLES = {
    "requests": (sys.executable, "sample.py", PYTHON),
    "fetch": ("node", "sample.mjs", NODE),
    "java": ("java", "Sample.java", JAVA),
    "curl": ("sh", "sample.sh", SHELL),
}


@pytest.mark.timeout(120)  # javac may take its time
@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
@pytest.mark.parametrize("name", SAMPLES)
async def test_samples_work_unchanged(tmp_path: Path, name: str, prefix: str) -> None:
    program, file, text = SAMPLES[name]
    if shutil.which(program) is None or (name == "curl" and shutil.which("curl") is None):
        pytest.skip(f"{program} is not installed")
    async with (
        Upstream() as upstream,
        gateway(tmp_path, providers={"up": {"base_url": upstream.url}}) as sluice,
    ):
        upstream.reply(chat_stream("Hello ", "there"))
        sample = dedent(text)
        literal = BODY if name == "curl" else json.dumps(BODY)
        for word, value in (("URL", sluice.url + prefix), ("KEY", API_KEY), ("BODY", literal)):
            sample = sample.replace(word, value)
        (tmp_path / file).write_text(sample)
        process = await asyncio.create_subprocess_exec(
            program, str(tmp_path / file), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        printed, errors = await process.communicate()
        assert printed.decode() == "Hello there", errors.decode()
        assert upstream.requests[0].json["messages"] == [{"role": "user", "content": "Hi"}]
