// The requests of loadtest/churn, which starts this and reads what it prints: what they took, as JSON.

import { scenario } from './lib/scenario.js';

const { options, iteration } = scenario('churn', { rate: 100, duration: '60s', p99: 10000, usersPerRate: 0.5 });

export { options };
export default iteration;

export function handleSummary({ metrics }) {
  const value = (metric, stat) => ((metrics[metric] || { values: {} }).values[stat] || 0);
  const said = {
    requests: value('http_reqs', 'count'),
    failed: value('http_req_failed', 'passes'),
    late: value('dropped_iterations', 'count'),
    p50: value('http_req_duration', 'med'),
    p99: value('http_req_duration', 'p(99)'),
  };
  return { stdout: `${JSON.stringify(said)}\n` };
}
