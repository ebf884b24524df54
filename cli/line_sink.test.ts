// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DescriptorSink } from './line_sink.ts';

describe('lines to a descriptor', () => {
  let folder: string;
  beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'iommulator-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  it('are in the file as soon as they are given', () => {
    const path = join(folder, 'trace');
    const fd = openSync(path, 'w');
    const sink = new DescriptorSink(fd);
    sink.line('one');
    expect(readFileSync(path, 'utf8')).toBe('one\n');
    sink.line('zwei — drei');
    expect(readFileSync(path, 'utf8')).toBe('one\nzwei — drei\n');
    closeSync(fd);
  });

  it('stop, with the reason kept, where the destination is full', () => {
    const fd = openSync('/dev/full', 'w');
    const sink = new DescriptorSink(fd);
    sink.line('one');
    sink.line('two');
    expect(sink.failure).toBe('ENOSPC');
    closeSync(fd);
  });

  it('arrive whole through a non-blocking pipe whose reader is slow', async () => {
    // Node's end is non-blocking, and `cat` has not started when the pipe is full: the writer meets EAGAIN.
    const child = spawn('cat', [], { stdio: ['pipe', 'pipe', 'inherit'] });
    let read = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => void (read += text));
    const fd = (child.stdin as unknown as { _handle: { fd: number } })._handle.fd;
    const sink = new DescriptorSink(fd);
    const text = 'x'.repeat(999);
    for (let i = 0; i < 200; i++) sink.line(text);
    child.stdin.end();
    await new Promise((resolve) => child.stdout.on('close', resolve));
    expect(sink.failure).toBeUndefined();
    expect(read.split('\n').filter((line) => line === text)).toHaveLength(200);
  });
});
