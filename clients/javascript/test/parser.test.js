import assert from "node:assert/strict";
import { test } from "node:test";

import { EventStreamParser } from "../client.js";

const bytes = (text) => new TextEncoder().encode(text);

/** The frames of pieces that arrive one after the other. */
function parsed(...pieces) {
  const parser = new EventStreamParser();
  const frames = pieces.flatMap((piece) => parser.push(piece));
  return { frames, retryMs: parser.retryMs };
}

const frame = (data, id = "", event = "message") => ({ event, data, id });

test("a stream is the same wherever it is cut, once or twice", () => {
  const whole = bytes(
    '\ufeff: open\r\nretry: 1437\r\n\r\nid: 1\nevent: progress\ndata: {"text":"ä€🦀"}\n\nid: 2\rdata: a\rdata:  b\r\r: alive\n\ndata\n\n',
  );
  const expected = { frames: [frame('{"text":"ä€🦀"}', "1", "progress"), frame("a\n b", "2"), frame("", "2")], retryMs: 1437 };
  assert.deepEqual(parsed(whole), expected);
  for (let first = 0; first <= whole.length; first++) {
    assert.deepEqual(parsed(whole.slice(0, first), whole.slice(first)), expected, `cut at ${first}`);
    for (let second = first; second <= whole.length; second++) {
      const pieces = [whole.slice(0, first), whole.slice(first, second), whole.slice(second)];
      assert.deepEqual(parsed(...pieces), expected, `cut at ${first} and ${second}`);
    }
  }
  assert.deepEqual(parsed(...Array.from(whole, (byte) => Uint8Array.of(byte))), expected, "byte by byte");
});

test("CR, LF and CRLF end a line, and each ends one only", () => {
  for (const end of ["\n", "\r", "\r\n"]) {
    const text = ["data: a", "data:", "data: b", "", "data: c", "", ""].join(end);
    assert.deepEqual(parsed(bytes(text)).frames, [frame("a\n\nb"), frame("c")]);
  }
  assert.deepEqual(parsed(bytes("data: a\r"), bytes("\ndata: b\r"), bytes("\n\r"), bytes("\n")).frames, [frame("a\nb")]);
});

test("what has no data is no event, but its id counts", () => {
  const { frames } = parsed(bytes("id: 7\nevent: progress\n\ndata: x\n\n"));
  assert.deepEqual(frames, [frame("x", "7")]);
});

test("what the stream ends within is dropped", () => {
  assert.deepEqual(parsed(bytes("data: whole\n\ndata: half\n")).frames, [frame("whole")]);
  assert.deepEqual(parsed(bytes("data: half")).frames, []);
});

test("fields that are not known, and values that are none, are ignored", () => {
  const { frames, retryMs } = parsed(bytes("retry: soon\nretry: -1\nid: 4\nid: a\0b\nmood: good\n data: no\ndata:  two\n\n"));
  assert.deepEqual(frames, [frame(" two", "4")]);
  assert.equal(retryMs, undefined);
});

test("a long line that comes in many pieces is whole", () => {
  const parser = new EventStreamParser();
  const piece = bytes("x".repeat(4096));
  parser.push(bytes("data: "));
  for (let n = 0; n < 2560; n++) assert.deepEqual(parser.push(piece), []);
  assert.equal(parser.push(bytes("\n\n"))[0].data.length, 2560 * 4096);
});
