// One torrent in webtorrent: client.mjs JOB, where JOB is a JSON object with port, source (path or magnet link), dir.
// Over TCP alone: no WebRTC, uTP, DHT or local discovery. In plaintext: its encrypted handshake throws an exception.
// Prints "complete" once it has everything.
import { readFileSync } from 'node:fs'
import { register } from 'node:module'

// The package's native half is not installed: nothing here speaks WebRTC.
const none = 'data:text/javascript,export const RTCPeerConnection=undefined,RTCSessionDescription=undefined,RTCIceCandidate=undefined'
const hook = `export const resolve = (what, context, next) =>
  what === 'webrtc-polyfill' ? { url: ${JSON.stringify(none)}, shortCircuit: true } : next(what, context)`
register('data:text/javascript,' + encodeURIComponent(hook))
const { default: WebTorrent } = await import('webtorrent')

const job = JSON.parse(process.argv[2])
const client = new WebTorrent({
  torrentPort: job.port, dht: false, lsd: false, utp: false, utPex: false, natUpnp: false, natPmp: false,
  webSeeds: false
})
client.on('error', error => { console.error(error); process.exit(1) })
const source = job.source.startsWith('magnet:') ? job.source : readFileSync(job.source)
const torrent = client.add(source, { path: job.dir, destroyStoreOnDestroy: false })
torrent.on('warning', warning => console.log('warning:', warning.message ?? warning))
torrent.on('metadata', () => console.log('metadata'))
torrent.on('wire', wire => console.log('peer', wire.remoteAddress, wire.type))
torrent.on('done', () => console.log('complete'))
