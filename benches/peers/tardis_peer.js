// tardis-dev: its normalised book-change mappers and its OrderBook. REST snapshots are put into the stream as its own
// real-time feeds do. Speaks the protocol of worker.py.
const fs = require('fs')
const path = require('path')
const readline = require('readline')
const zlib = require('zlib')
const tardis = require(path.resolve(process.argv[2], 'node_modules', 'tardis-dev'))

const LEVELS = 10
const ENOUGH = 50_000 // microseconds, as in worker.py
const EXCHANGES = {
  binance: 'binance',
  binance_futures: 'binance-futures',
  bitfinex: 'bitfinex',
  bitget: 'bitget',
  bitmex: 'bitmex',
  bitstamp: 'bitstamp',
  bybit: 'bybit-spot',
  coinbase: 'coinbase',
  cryptocom: 'crypto-com',
  deribit: 'deribit',
  dydx: 'dydx-v4',
  gateio: 'gate-io',
  gemini: 'gemini',
  htx: 'huobi',
  hyperliquid: 'hyperliquid',
  kraken: 'kraken',
  kucoin: 'kucoin',
  okx: 'okex',
  upbit: 'upbit'
}
// What its mapper of today looks for, where the venue has had another protocol too.
const SPELLED = { coinbase: '"l2update"', kraken: '"book-' }
// It reads OKX's public channel only from feeds of today, and Bybit's book only with 50 levels unless made directly.
const TODAY = ['okx']
const MAPPERS = {
  bybit: () => new (require(path.resolve(process.argv[2], 'node_modules/tardis-dev/dist/mappers/bybit')).BybitV5BookChangeMapper)('bybit-spot', 200)
}

// A REST snapshot as the message that tardis makes of it.
const SNAPSHOTS = {
  binance: (symbol, body) => ({ stream: `${symbol.toLowerCase()}@depthSnapshot`, generated: true, data: body }),
  kucoin: (symbol, body) => ({
    type: 'message', generated: true, topic: `/market/level2Snapshot:${symbol}`, subject: 'trade.l2Snapshot', ...body
  }),
  bitstamp: (symbol, body) => ({ event: 'snapshot', channel: `diff_order_book_${symbol}`, generated: true, data: body })
}
SNAPSHOTS.binance_futures = SNAPSHOTS.binance

class Refused extends Error {}

const bytes = (line) => Buffer.from(line.body, line.kind === 'binary_b64' ? 'base64' : 'utf8')
const arrived = (line) => line.kind === 'text' || line.kind === 'binary_b64'

function opened(file) {
  const item = JSON.parse(fs.readFileSync(file, 'utf8'))
  const exchange = EXCHANGES[item.venue]
  if (exchange === undefined) throw new Refused('no such venue')
  const raw = fs.readFileSync(item.recording)
  const lines = (item.recording.endsWith('.gz') ? zlib.gunzipSync(raw) : raw).toString('utf8').trim().split('\n').map((line) => JSON.parse(line))
  const spelled = SPELLED[item.venue]
  if (spelled !== undefined && !lines.some((line) => arrived(line) && line.body.includes(spelled)))
    throw new Refused(`another protocol: it reads ${spelled} messages, the recording has none`)
  return { ...item, exchange, lines, now: TODAY.includes(item.venue) ? new Date() : new Date(lines[0].recv_ns / 1e6) }
}

const message = (text) => (text[0] === 0x1f && text[1] === 0x8b ? JSON.parse(zlib.gunzipSync(text)) : JSON.parse(text))

// What reads a recording: its books, and what is done with a message and with a line.
function reader({ venue, exchange, symbols, now }, traded) {
  const mapper = MAPPERS[venue] ? MAPPERS[venue]() : tardis.normalizeBookChanges(exchange, now)
  const trades = traded && tardis.normalizeTrades(exchange, now)
  const native = Object.fromEntries(Object.keys(symbols).map((name) => [name.toUpperCase(), name]))
  const named = (symbol) => native[symbol.toUpperCase()] ?? native[`T${symbol}`.toUpperCase()] ?? symbol
  const books = {}
  const handle = (value) => {
    if (!mapper.canHandle(value)) return
    const changes = mapper.map(value, now)
    if (!changes) return
    for (const change of changes) {
      const book = (books[change.symbol] ??= new tardis.OrderBook())
      book.update(change)
    }
  }
  const take = (line) => {
    if (arrived(line)) {
      let value
      try { value = message(bytes(line)) } catch { return } // plain words such as "pong"
      handle(value)
      if (trades && trades.canHandle(value)) for (const trade of trades.map(value, now) ?? []) traded(named(trade.symbol), trade)
    } else if (line.kind === 'http' && SNAPSHOTS[venue] !== undefined) {
      const found = Object.keys(symbols).filter((name) => line.url.toLowerCase().includes(name.toLowerCase()))
      const symbol = found.sort((one, other) => other.length - one.length)[0]
      if (symbol !== undefined && /depth|book/.test(line.url)) handle(SNAPSHOTS[venue](symbol, JSON.parse(line.body)))
    }
  }
  const levels = (side, most) => {
    const out = []
    for (const level of side) {
      if (out.length === most) break
      out.push([String(level.price), String(level.amount)])
    }
    return out
  }
  const told = (most) =>
    Object.entries(books).map(([symbol, book]) => [named(symbol), levels(book.bids(), most), levels(book.asks(), most)])
  return { handle, take, told }
}

function load(file) {
  const item = opened(file)
  const frames = item.frames.map((at) => bytes(item.lines[at]))
  return () => {
    const { handle, take, told } = reader(item)
    item.lines.slice(0, item.warm).forEach(take)
    if (global.gc) global.gc()
    const begin = process.cpuUsage()
    for (const frame of frames) handle(message(frame))
    const spent = process.cpuUsage(begin)
    const books = Object.fromEntries(told(LEVELS).map(([symbol, bids, asks]) => [symbol, [bids, asks]]))
    return { micros: spent.user + spent.system, books }
  }
}

function read(file, out) {
  const item = opened(file)
  const shown = new Set(item.shown)
  const wrote = fs.openSync(out, 'w')
  const write = (what) => fs.writeSync(wrote, JSON.stringify(what) + '\n')
  const last = {}
  const { take, told } = reader(item, (symbol, { price, amount, side, id }) =>
    write({ symbol, price: String(price), size: String(amount), side, id: id === undefined ? null : String(id) })
  )
  item.lines.forEach((line, number) => {
    take(line)
    if (!shown.has(number)) return
    for (const [symbol, bids, asks] of told(Infinity)) {
      const text = JSON.stringify({ bids, asks })
      if (last[symbol] === text) continue
      last[symbol] = text
      write({ line: number, symbol, bids, asks })
    }
  })
  fs.closeSync(wrote)
}

let run
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const request = JSON.parse(line)
  let answer = {}
  try {
    if (request.op === 'load') run = load(request.case)
    else if (request.op === 'read') read(request.case, request.out)
    else {
      let micros = 0
      let passes = 0
      let books
      while (micros < ENOUGH) {
        const round = run()
        books = round.books
        micros += round.micros
        passes += 1
      }
      answer = { nanos: (micros * 1000) / passes, books }
    }
  } catch (error) {
    answer = { reason: error instanceof Refused ? error.message : `stopped: ${error}`.slice(0, 300) }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
})
