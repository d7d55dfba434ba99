// A node of bittorrent-dht: dht.mjs JOB, where JOB is a JSON object with host, port, nodes (ip:port each, none for
// nobody), seed (hex, of the key that signs) and socket.
// Orders come over the unix socket, one JSON object in a line, each answered by one.
import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import { renameSync } from 'node:fs'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import DHT from 'bittorrent-dht'

const job = JSON.parse(process.argv[2])

// Raw Ed25519 keys, as RFC 8410 wraps them.
const PRIVATE = Buffer.from('302e020100300506032b657004220420', 'hex')
const PUBLIC = Buffer.from('302a300506032b6570032100', 'hex')
const owner = createPrivateKey({ key: Buffer.concat([PRIVATE, Buffer.from(job.seed, 'hex')]), format: 'der', type: 'pkcs8' })
const own = createPublicKey(owner).export({ format: 'der', type: 'spki' }).subarray(PUBLIC.length)
const isSigned = (signature, message, key) =>
  verify(null, message, createPublicKey({ key: Buffer.concat([PUBLIC, key]), format: 'der', type: 'spki' }), signature)

const dht = new DHT({ bootstrap: job.nodes, verify: isSigned })
dht.on('warning', warning => console.log('warning:', warning.message))
dht.on('error', error => { console.error(error); process.exit(1) })

const hash = (...parts) => createHash('sha1').update(Buffer.concat(parts)).digest()
const target = (key, salt) => hash(key, Buffer.from(salt ?? ''))
// An announce and a put go to the nodes of the last search, if there was one, even if that found nobody. So each begins
// with a search.
const search = (at, options = {}) => new Promise(resolve =>
  dht.get(at, { ...options, cache: false }, (error, found) => resolve(error ? null : found)))
const put = item => new Promise(resolve =>
  dht.put(item, (error, _, stored) => { if (error) console.log(error.message); resolve(error ? 0 : stored) }))
const lookup = infoHash => new Promise(resolve => {
  const found = new Set()
  const see = (peer, of) => of.toString('hex') === infoHash && found.add(`${peer.host}:${peer.port}`)
  dht.on('peer', see)
  dht.lookup(infoHash, () => { dht.off('peer', see); resolve([...found]) })
})

const orders = {
  nodes: () => dht.toJSON().nodes.length,
  peers: order => lookup(order.hash),
  announce: async order => {
    await lookup(order.hash)
    return new Promise(resolve => dht.announce(order.hash, order.port, (error, stored) => resolve(error ? 0 : stored)))
  },
  put: async order => {
    const value = Buffer.from(order.value)
    const at = hash(Buffer.from(`${value.length}:`), value)
    await search(at)
    return await put({ v: value }) > 0 ? at.toString('hex') : null
  },
  put_mutable: async order => {
    const salt = order.salt === null ? {} : { salt: Buffer.from(order.salt) }
    await search(target(own, order.salt), salt)
    const item = { k: own, seq: order.seq, v: Buffer.from(order.value), sign: message => sign(null, message, owner), ...salt }
    return await put(item) > 0 ? own.toString('hex') : null
  },
  get: async order => (await search(order.target))?.v.toString() ?? null,
  get_mutable: async order => {
    const found = await search(target(Buffer.from(order.key, 'hex'), order.salt), order.salt === null ? {} : { salt: order.salt })
    return found && { value: found.v.toString(), seq: found.seq }
  }
}

const server = createServer(stream => {
  createInterface(stream).once('line', async line => {
    const order = JSON.parse(line)
    stream.end(JSON.stringify({ answer: await orders[order.do](order) }) + '\n')
  })
})
dht.listen(job.port, job.host, () => server.listen(job.socket + '.new', () => renameSync(job.socket + '.new', job.socket)))
