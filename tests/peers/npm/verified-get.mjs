// verified-get.mjs GATEWAY CID[/path] → one JSON line {status, bytes, sha256} of what was verified.
// HTTP only, no libp2p. Exit status 0 only if every block matched its CID.
import { createHash } from 'node:crypto'
import { createHeliaLight } from 'helia'
import { withHTTP } from '@helia/http'
import { fallbackRouter } from '@helia/fallback-router'
import { createVerifiedFetchWithHelia } from '@helia/verified-fetch'

const [gateway, path] = process.argv.slice(2)
const helia = withHTTP(createHeliaLight(), {
  delegatedRouters: [],
  recursiveGateways: [],
  allowLocal: true,
  allowInsecure: true
})
// A fallback router is asked only after the ordinary ones, and there are none: register it as one.
helia.addRouter(Object.assign(fallbackRouter({ gateways: [gateway] }), {
  capabilities: () => ['findProviders', 'provider', 'content']
}))
const verifiedFetch = await createVerifiedFetchWithHelia(await helia.start())
const response = await verifiedFetch(`ipfs://${path}`, { signal: AbortSignal.timeout(60_000) })
const hash = createHash('sha256')
let bytes = 0
for await (const chunk of response.body) {
  hash.update(chunk)
  bytes += chunk.length
}
console.log(JSON.stringify({ status: response.status, bytes, sha256: hash.digest('hex') }))
await verifiedFetch.stop()
