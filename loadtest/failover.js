// A steady load while something dies and returns: no request may fail. Names are looked up anew for each
// connection, and there are users enough for one second in which nothing answers.

import { scenario } from './lib/scenario.js';

const defaults = { rate: 500, duration: '60s', p99: 3000, usersPerRate: 1 };
const { options, iteration, summary } = scenario('failover', defaults, { dns: { ttl: '0', select: 'random' } });

export { options };
export default iteration;
export const handleSummary = summary;
