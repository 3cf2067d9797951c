// `serve --wyoming` and the client of the protocol's reference implementation.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeFetched } from "../support/fetched.ts";
import { tinyDeployable } from "../support/models.ts";
import { serve, startProgram, type Serving } from "../support/program.ts";
import { fetchWyoming } from "../tools/fetch-wyoming.mjs";

const folder = mkdtempSync(join(tmpdir(), "edgelabel-wyoming-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Asks as Home Assistant does, which opens a connection for each sentence, and then as others, on one; prints a line of JSON for each answer. */
const CLIENT = `
import asyncio, dataclasses, json, sys
from wyoming.asr import Transcript
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.info import Describe, Info, SelectProgram
from wyoming.intent import Intent, NotRecognized, Recognize
from wyoming.ping import Ping, Pong

KINDS = [Info, Intent, NotRecognized, Error, Pong]

async def ask(client, event):
    await client.write_event(event.event())
    answer = await client.read_event()
    kind = next(kind for kind in KINDS if kind.is_type(answer.type))
    print(json.dumps([kind.__name__, dataclasses.asdict(kind.from_event(answer))]), flush=True)

async def main(uri):
    context = {"conversation_id": "01J", "device_id": None}
    for text in ["turn on the light", "play some jazz", "", "x" * 70_000]:
        async with AsyncClient.from_uri(uri, connect_timeout=30, read_timeout=30) as client:
            await ask(client, Transcript(text, context=context, language="en"))
    async with AsyncClient.from_uri(uri, connect_timeout=30, read_timeout=30) as client:
        await ask(client, Describe())
        await ask(client, Ping("a"))
        await ask(client, Recognize("turn on the light"))
        await ask(client, SelectProgram("nope"))
        await client.write_event(SelectProgram("strict").event())
        await ask(client, Recognize("will it rain today"))

asyncio.run(main(sys.argv[1]))
`;

describeFetched("Wyoming", "Python's wyoming", fetchWyoming, (packages) => {
  let model: string;
  beforeAll(async () => {
    model = join(folder, "tiny.wasm");
    writeFileSync(model, await tinyDeployable());
    writeFileSync(join(folder, "client.py"), CLIENT);
  });

  function uriOf(serving: Serving): string {
    return /tcp:\/\/127\.0\.0\.1:\d+/.exec(serving.stdout())![0];
  }

  async function answersOf(serving: Serving): Promise<[kind: string, fields: any][]> {
    const client = startProgram("python3", [join(folder, "client.py"), uriOf(serving)], {
      env: { ...process.env, PYTHONPATH: packages },
    });
    expect(await client.ended, client.stderr()).toBe(0);
    return client
      .stdout()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  }

  test("its client asks, and is answered", async () => {
    const serving = await serve([model, `strict=${model}`, "--port", "0", "--wyoming", "0", "--node", "home"]);
    const [light, music, nothing, long, info, pong, again, refused, strict] = await answersOf(serving);
    const context = { conversation_id: "01J", device_id: null };
    expect(light).toEqual(["Intent", { name: "light", entities: [], text: null, context }]);
    expect(music).toEqual(["Intent", { name: "music", entities: [], text: null, context }]);
    expect(nothing).toEqual(["NotRecognized", { text: null, context }]);
    expect(long).toEqual(["Error", { code: "bad_request", text: expect.stringContaining("at most 65536 bytes") }]);
    expect(info![0]).toBe("Info");
    expect(info![1]).toMatchObject({
      asr: [],
      satellite: null,
      intent: [
        { name: "tiny", installed: true, models: [{ name: "tiny", version: "1", installed: true, languages: [] }] },
        { name: "strict" },
      ],
    });
    expect(pong).toEqual(["Pong", { text: "a" }]);
    expect(again).toEqual(["Intent", { name: "light", entities: [], text: null, context: null }]);
    expect(refused![1].code).toBe("unknown_model");
    expect(strict![1].name).toBe("weather");
    expect(serving.output()).not.toContain("jazz");
    expect((await serving.end()).code).toBe(0);
  });

  test("below the configuration's threshold, no sentence is recognized", async () => {
    const config = join(folder, "edgelabel.json");
    writeFileSync(
      config,
      JSON.stringify({
        models: ["tiny.wasm", { name: "strict", path: "tiny.wasm" }],
        port: 0,
        wyoming: { port: 0, threshold: 1 },
      }),
    );
    const kinds = (await answersOf(await serve(["--config", config]))).map(([kind]) => kind);
    expect(kinds).toEqual([
      ...["NotRecognized", "NotRecognized", "NotRecognized", "Error"],
      ...["Info", "Pong", "NotRecognized", "Error", "NotRecognized"],
    ]);
  });
});
