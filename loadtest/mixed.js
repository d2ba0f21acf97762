// Every protocol at once, through every gateway in turn: requests of HTTP/1.1 and HTTP/2, gRPC calls (each tenth a
// stream), WebSockets of ten messages each. PROTOCOLS says which, as k6 speaks only one HTTP in one process: `run
// mixed` starts two.

import http from 'k6/http';
import grpc from 'k6/net/grpc';
import ws from 'k6/ws';
import exec from 'k6/execution';
import { Rate, Trend } from 'k6/metrics';
import { open } from './lib/doors.js';
import { settings } from './lib/settings.js';

/** What share of RATE each has. */
const SHARES = { http1: 0.4, http2: 0.3, grpc: 0.2, websocket: 0.1 };
const MESSAGES = 10;
const TIMEOUT = '10s';

const wanted = settings({ rate: 1000, duration: '30s', p99: 500, usersPerRate: 0.2 });
const protocols = (__ENV.PROTOCOLS || 'http2,grpc,websocket').split(',');
const { doors, hosts } = open(wanted.targets, wanted.hosts);

/** Of requests, calls and messages, by protocol. */
const failed = new Rate('failed');
const took = new Trend('took', true);

const client = new grpc.Client();
client.load([import.meta.resolve('.').replace('file://', '')], 'echo.proto');
let connected = false;

export const options = {
  scenarios: Object.fromEntries(protocols.map((protocol) => [protocol, arrival(protocol)])),
  thresholds: {
    dropped_iterations: ['count<=0'],
    ...Object.fromEntries(protocols.flatMap((protocol) => [
      [`failed{protocol:${protocol}}`, [`rate<=${wanted.failed}`]],
      [`took{protocol:${protocol}}`, [`p(99)<${wanted.p99}`]],
    ])),
  },
  summaryTrendStats: ['count', 'med', 'p(99)', 'max'],
  discardResponseBodies: true,
  hosts,
};

function arrival(protocol) {
  const each = protocol === 'websocket' ? MESSAGES : 1;
  const rate = Math.max(1, Math.round(wanted.rate * SHARES[protocol] / each));
  const users = Math.max(10, Math.ceil(wanted.users * SHARES[protocol]));
  return {
    executor: 'constant-arrival-rate', exec: protocol, rate, timeUnit: '1s', duration: wanted.duration,
    preAllocatedVUs: users, maxVUs: users * 4, gracefulStop: '15s',
  };
}

const door = () => doors[exec.scenario.iterationInTest % doors.length];

function count(protocol, fault, milliseconds) {
  failed.add(fault !== null, { protocol });
  if (fault === null) took.add(milliseconds, { protocol });
  else console.error(`${protocol}: ${fault}`);
}

export const http1 = () => get('http1', 'HTTP/1.1');
export const http2 = () => get('http2', 'HTTP/2.0');

function get(protocol, version) {
  const { url, params } = door();
  const answer = http.get(url, params);
  const right = answer.status === 200 && answer.proto === version;
  count(protocol, right ? null : `${answer.proto} ${answer.status} ${answer.error}`, answer.timings.duration);
}

/** A user keeps its connection, to one gateway. */
function connect() {
  if (connected) return;
  const { url } = doors[exec.vu.idInTest % doors.length];
  client.connect(url.replace(/^https?:\/\//, '').replace(/\/.*$/, ''), { timeout: TIMEOUT, plaintext: url.startsWith('http:') });
  connected = true;
}

export function grpc_() {
  try {
    connect();
  } catch (error) {
    return count('grpc', `no connection: ${error}`, 0);
  }
  return exec.scenario.iterationInTest % 10 === 0 ? converse() : call();
}

function call() {
  const began = Date.now();
  const text = `call ${exec.scenario.iterationInTest}`;
  const answer = client.invoke('tombolo.demo.Echo/Unary', { text }, { timeout: TIMEOUT });
  const right = answer.status === grpc.StatusOK && answer.message.text === text;
  count('grpc', right ? null : `status ${answer.status} ${answer.error && answer.error.message}`, Date.now() - began);
}

/** Says a word after each answer, three times. */
function converse() {
  const began = Date.now();
  const stream = new grpc.Stream(client, 'tombolo.demo.Echo/Stream', { timeout: TIMEOUT });
  let [heard, fault] = [0, null];
  const say = () => stream.write({ text: `word ${heard}` });
  stream.on('data', ({ text }) => {
    if (text !== `word ${heard}`) fault = `heard ${text} in place of word ${heard}`;
    heard += 1;
    return heard < 3 ? say() : stream.end();
  });
  stream.on('error', (error) => { fault = `stream: ${error.message}`; });
  stream.on('end', () => count('grpc', fault || (heard === 3 ? null : `heard ${heard} of 3`), Date.now() - began));
  say();
}

export function websocket() {
  const { url, params } = door();
  let [heard, sent, closed] = [0, 0, false];
  const answer = ws.connect(`${url.replace(/^http/, 'ws')}ws`, params, (socket) => {
    const say = () => {
      sent = Date.now();
      socket.send(`message ${heard}`);
    };
    socket.on('open', say);
    socket.on('message', (text) => {
      const right = text === `message ${heard}`;
      count('websocket', right ? null : `heard ${text} in place of message ${heard}`, Date.now() - sent);
      heard += 1;
      if (heard < MESSAGES) return say();
      closed = true;
      return socket.close();
    });
    socket.on('error', (error) => { if (!closed) count('websocket', error.error(), 0); });
    socket.setTimeout(() => socket.close(), 10000);
  });
  if (answer.status !== 101) count('websocket', `status ${answer.status}`, 0);
  else if (heard < MESSAGES) count('websocket', `cut after ${heard} messages`, 0);
}

export { grpc_ as grpc };

/** One line for each protocol. */
export function handleSummary({ metrics, state }) {
  const value = (metric, stat) => ((metrics[metric] || { values: {} }).values[stat] || 0);
  const seconds = state.testRunDurationMs / 1000;
  const lines = protocols.map((protocol) => {
    const [rate, times] = [`failed{protocol:${protocol}}`, `took{protocol:${protocol}}`];
    const [bad, good] = [value(rate, 'passes'), value(rate, 'fails')];
    return `  ${protocol.padEnd(10)}${String(good + bad).padStart(9)} in all  ${(good / seconds).toFixed(1).padStart(7)}/s` +
      `${String(bad).padStart(7)} failed   p50 ${value(times, 'med').toFixed(1)} ms  p99 ${value(times, 'p(99)').toFixed(1)} ms`;
  });
  const missed = value('dropped_iterations', 'count');
  if (missed > 0) lines.push(`  not sent: ${missed}, as no user was free in time`);
  return { stdout: `${lines.join('\n')}\n` };
}
