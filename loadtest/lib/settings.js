// What the environment asks for, read in one place so that it means the same in every scenario. See README.md.

const env = (name, fallback) => (__ENV[name] === undefined || __ENV[name] === '' ? fallback : __ENV[name]);

function number(name, fallback) {
  const value = Number(env(name, fallback));
  if (Number.isFinite(value) && value >= 0) return value;
  throw new Error(`${name}=${__ENV[name]} is not a number: write it in digits, as in ${name}=${fallback}`);
}

/** The settings of a scenario: `defaults` has its rate (requests/s), duration, p99 (ms) and spare users per request/s. */
export function settings(defaults) {
  const rate = number('RATE', defaults.rate);
  const users = number('VUS', Math.max(10, Math.ceil(rate * defaults.usersPerRate)));
  return {
    rate,
    users,
    duration: env('DURATION', defaults.duration),
    ramp: env('RAMP', ''),
    p99: number('P99', defaults.p99),
    failed: number('FAILED', 0),
    clusters: env('CLUSTERS', '').split(',').filter(Boolean),
    targets: targets(env('TARGET', '')),
    hosts: hosts(env('HOSTS', '')),
    outage: outage(),
  };
}

function targets(text) {
  if (text === '') throw new Error('no TARGET: write the URL to call, as in TARGET=https://shop.example.com/');
  return text.split(',');
}

/** `name=ip,name=ip,…`, or JSON `{"name": "ip"}` or `{"name": ["ip", …]}`, as a map from name to addresses. */
function hosts(text) {
  const map = {};
  for (const [name, ip] of text.trimStart().startsWith('{') ? fromJson(text) : fromPairs(text)) {
    (map[name] = map[name] || []).push(ip);
  }
  return map;
}

function fromJson(text) {
  return Object.entries(JSON.parse(text)).flatMap(([name, ips]) => [].concat(ips).map((ip) => [name, ip]));
}

function fromPairs(text) {
  return text.split(',').filter(Boolean).map((pair) => {
    const parts = pair.split('=');
    if (parts.length === 2 && parts[0] && parts[1]) return parts;
    throw new Error(`HOSTS: ${pair} is not NAME=IP`);
  });
}

/** When something is away, in seconds since 1970, as `run` tells it; `null` when nobody said so. */
function outage() {
  const [from, to] = [number('OUTAGE_FROM', 0), number('OUTAGE_TO', 0)];
  return from > 0 ? { from, to: to > 0 ? to : Infinity } : null;
}
