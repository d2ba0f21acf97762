// A workload calls a service of its global namespace by name, through its cluster's gateway; the instances are in
// every cluster.

import { scenario } from './lib/scenario.js';

const { options, iteration, summary } = scenario('mesh', { rate: 200, duration: '30s', p99: 500, usersPerRate: 0.2 });

export { options };
export default iteration;
export const handleSummary = summary;
