// One scenario: idempotent GETs at a given arrival rate, through every door in turn, each answer counted by the
// cluster that served it.

import http from 'k6/http';
import exec from 'k6/execution';
import { Trend } from 'k6/metrics';
import { open } from './doors.js';
import { settings } from './settings.js';
import { series, verdict } from './verdict.js';

/** What is dead gets no request after this many seconds. */
const NOTICED = 3;
/** What came back is in rotation after this many seconds. */
const RETURNED = 10;

const served = new Trend('served', true);

/** Everything that a k6 script exports: options, the work of one iteration, and the verdict. */
export function scenario(name, defaults, extra = {}) {
  const wanted = settings(defaults);
  const { doors, hosts } = open(wanted.targets, wanted.hosts);
  const phases = wanted.outage ? ['before', 'during', 'after'] : [null];
  http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }));
  const options = {
    scenarios: { [name]: arrival(wanted) },
    thresholds: thresholds(wanted, phases),
    summaryTrendStats: ['count', 'med', 'p(99)', 'max'],
    discardResponseBodies: true,
    hosts,
    ...extra,
  };
  const iteration = () => {
    const door = doors[exec.scenario.iterationInTest % doors.length];
    count(http.get(door.url, door.params), wanted);
  };
  return { options, iteration, summary: (data) => ({ stdout: verdict(name, wanted, phases, data) }) };
}

function arrival({ rate, users, duration, ramp }) {
  const pool = { timeUnit: '1s', preAllocatedVUs: users, maxVUs: users * 4, gracefulStop: '15s' };
  if (ramp === '') return { executor: 'constant-arrival-rate', rate, duration, ...pool };
  const stages = [{ target: rate, duration: ramp }, { target: rate, duration }];
  return { executor: 'ramping-arrival-rate', startRate: Math.ceil(rate / 10), stages, ...pool };
}

/** Those that decide, and those that always hold: k6 sums up only what a threshold names. */
function thresholds({ failed, p99, clusters }, phases) {
  const limits = {
    http_req_failed: [`rate<=${failed}`],
    dropped_iterations: ['count<=0'],
    http_req_duration: [`p(99)<${p99}`],
  };
  for (const cluster of [...clusters, 'other', 'unnamed']) {
    for (const phase of phases) limits[series(cluster, phase)] = ['max>=0'];
  }
  return limits;
}

function count(response, { clusters, outage }) {
  if (response.status < 200 || response.status > 299) return;
  const tags = servedBy(response.headers['Tombolo-Served-By'], clusters);
  const phase = outage && phaseOf(Date.now() / 1000, outage);
  if (phase) tags.phase = phase;
  served.add(response.timings.duration, tags);
}

/** `tombolo-served-by: CLUSTER/VERSION/INSTANCE` as tags. */
function servedBy(header, clusters) {
  if (!header) return { cluster: 'unnamed' };
  const [cluster, version, instance] = header.split('/');
  return { cluster: clusters.includes(cluster) ? cluster : 'other', version, instance };
}

/** Before, during or after the outage; `in between` while it is being noticed, either way. */
function phaseOf(now, { from, to }) {
  if (now < from) return 'before';
  if (now >= from + NOTICED && now < to) return 'during';
  return now >= to + RETURNED ? 'after' : 'in between';
}
