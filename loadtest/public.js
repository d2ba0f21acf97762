// A public service under load, over HTTPS or HTTP, through every gateway that HOSTS (or DNS) names.

import { scenario } from './lib/scenario.js';

const { options, iteration, summary } = scenario('public', { rate: 200, duration: '30s', p99: 500, usersPerRate: 0.2 });

export { options };
export default iteration;
export const handleSummary = summary;
