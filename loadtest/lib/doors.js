// The ways in. A host with several addresses, as a public service with several gateways has, gives one door each.
//
// k6 can give a name one address only. So every further address gets a port that nothing else uses, for k6 to
// tell it by; what goes over the wire (address, port, SNI, Host) is what the target says.

const URL = /^(https?):\/\/(\[[^\]]+\]|[^/:?#]+)(?::(\d+))?(.*)$/;

function split(target) {
  const parts = target.match(URL);
  if (!parts) throw new Error(`TARGET: ${target} is not a URL: write http://… or https://…`);
  const [, scheme, host, port, path] = parts;
  return { scheme, host, port: Number(port || (scheme === 'https' ? 443 : 80)), path, authority: port ? `${host}:${port}` : host };
}

const withPort = (ip, port) => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);

/** The doors (`url`, `params` of a request) and the `hosts` option that leads k6 to them. */
export function open(targets, addresses) {
  const parsed = targets.map(split);
  const taken = new Set(parsed.map(({ port }) => port));
  const doors = [];
  const hosts = {};
  for (const { scheme, host, port, path, authority } of parsed) {
    (addresses[host] || [null]).forEach((ip, index) => {
      const alias = index === 0 ? port : free(taken);
      if (ip !== null) hosts[`${host}:${alias}`] = withPort(ip, port);
      const headers = index === 0 ? {} : { Host: authority };
      doors.push({ url: `${scheme}://${host}:${alias}${path}`, params: { headers, tags: { name: authority }, timeout: '10s', redirects: 0 } });
    });
  }
  return { doors, hosts };
}

function free(taken) {
  let port = 1;
  while (taken.has(port)) port += 1;
  taken.add(port);
  return port;
}
