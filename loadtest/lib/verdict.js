// What a run says when it is over: a table for people. The exit status is k6's, by the thresholds.

/** The name of the part of `served` that one cluster answered, in one phase. */
export function series(cluster, phase) {
  return phase ? `served{cluster:${cluster},phase:${phase}}` : `served{cluster:${cluster}}`;
}

/** The verdict on a run as text. */
export function verdict(name, wanted, phases, data) {
  const value = (metric, stat) => ((data.metrics[metric] || { values: {} }).values[stat] || 0);
  const broken = failures(data.metrics);
  const lines = [
    '',
    `${name}: ${wanted.targets.join(', ')} at ${wanted.rate} requests/s for ${wanted.duration}`,
    '',
    row('requests', value('http_reqs', 'count')),
    row('failed', value('http_req_failed', 'passes'), percent(value('http_req_failed', 'rate'))),
    row('not sent', value('dropped_iterations', 'count'), 'no user was free in time'),
    row('rate', value('http_reqs', 'rate').toFixed(1), 'requests/s'),
    row('p50', value('http_req_duration', 'med').toFixed(1), 'ms'),
    row('p99', value('http_req_duration', 'p(99)').toFixed(1), 'ms'),
    '',
    ...shares(wanted, phases, value),
    '',
    ...broken.map((threshold) => `does not hold: ${threshold}`),
    broken.length === 0 ? 'PASSED' : 'FAILED',
    '',
  ];
  return lines.join('\n');
}

const percent = (share) => `${(share * 100).toFixed(2)} %`;
const row = (label, amount, unit = '') => `  ${label.padEnd(12)}${String(amount).padStart(10)}  ${unit}`.trimEnd();

function failures(metrics) {
  return Object.entries(metrics).flatMap(([metric, { thresholds = {} }]) =>
    Object.entries(thresholds).filter(([, { ok }]) => !ok).map(([limit]) => `${metric} ${limit}`));
}

/** Who served what share, in each phase; nothing about clusters that served nothing at all. */
function shares({ clusters }, phases, value) {
  const answers = (cluster, phase) => value(series(cluster, phase), 'count');
  const heading = phases.map((phase) => (phase || 'answers').padStart(20)).join('');
  const rows = [...clusters, 'other', 'unnamed']
    .filter((cluster) => clusters.includes(cluster) || phases.some((phase) => answers(cluster, phase) > 0))
    .map((cluster) => {
      const cells = phases.map((phase) => {
        const all = [...clusters, 'other', 'unnamed'].reduce((sum, each) => sum + answers(each, phase), 0);
        const count = answers(cluster, phase);
        return `${count}  ${percent(all ? count / all : 0).padStart(8)}`.padStart(20);
      });
      return `  ${cluster.padEnd(12)}${cells.join('')}`;
    });
  return [`  ${'served by'.padEnd(12)}${heading}`, ...rows];
}
