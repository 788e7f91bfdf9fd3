/**
 * What changes a job, each as one step that nothing comes between. Redis carries them out, so they are in Lua. They build
 * the names of keys themselves, from the prefix in ARGV[1]; a cluster of Redis, which wants the names in advance, cannot
 * run them.
 */

/** entries of a job's event stream */
const MOST_EVENTS = 100_000
/** waiting jobs whose position is sent after every change; that of the others is seen in their status */
const MOST_TOLD = 200
/** milliseconds that previews are kept after the end, for followers that lag behind: they take most of the memory */
const PREVIEWS_AFTER_END = 5000

const COMMON = `
local prefix = ARGV[1]
local call = redis.call
local function now()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function jobKey(id) return prefix .. ':job:' .. id end
local function lockKey(id, queue) return prefix .. ':queue:' .. queue .. ':job-' .. id .. ':lock' end
local function append(id, event, preview, isLast)
  local number = call('HINCRBY', jobKey(id), 'lastEvent', 1)
  call('XADD', jobKey(id) .. ':events', 'MAXLEN', '~', ${MOST_EVENTS}, number .. '-0', 'event', event, 'preview', preview)
  call('PUBLISH', prefix .. ':news', id .. (isLast and ' end' or ''))
end
local function tellPositions()
  local running = call('SCARD', prefix .. ':running')
  for i, id in ipairs(call('ZRANGE', prefix .. ':waiting', 0, ${MOST_TOLD - 1})) do
    local position = i - 1 + running
    if call('HGET', jobKey(id), 'position') ~= tostring(position) then
      call('HSET', jobKey(id), 'position', position)
      append(id, '{"type":"waiting","position":' .. position .. '}', '', false)
    end
  end
end
local function forget(id)
  call('ZREM', prefix .. ':waiting', id)
  call('SREM', prefix .. ':running', id)
  call('ZREM', prefix .. ':reserved', id)
  local found = call('HMGET', jobKey(id), 'client', 'inputs')
  call('SREM', prefix .. ':client:' .. found[1], id)
  if found[2] ~= '[]' then call('ZADD', prefix .. ':garbage', now(), found[2]) end
end
local function finish(id)
  local key = jobKey(id)
  local found = call('HMGET', key, 'keep', 'results')
  local keep = tonumber(found[1])
  forget(id)
  call('HSET', key, 'state', 'over')
  call('HDEL', key, 'owner', 'request', 'inputs', 'results')
  call('PEXPIRE', key, keep)
  call('PEXPIRE', key .. ':events', keep)
  call('PEXPIRE', key .. ':previews', math.min(keep, ${PREVIEWS_AFTER_END}))
  call('ZADD', prefix .. ':garbage', now() + keep, found[2])
  tellPositions()
end
`

/**
 * id → fingerprint of the job, jobs that wait, jobs of the client
 */
const room = `
local id, client = ARGV[2], ARGV[3]
return {
  call('HGET', jobKey(id), 'fingerprint'),
  call('ZCARD', prefix .. ':waiting'),
  call('SCARD', prefix .. ':client:' .. client),
}
`

/**
 * Adds a job unless there is one, or too many. It is reserved until `confirm`: one whose server died before that, and
 * that BullMQ does not know, is removed later.
 *
 * → as `room`; the job was added if there is no fingerprint and room for it
 */
const reserve = `
local id, client, priority = ARGV[2], ARGV[3], tonumber(ARGV[4])
local mostWaiting, perClient, patience = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local queue, results = ARGV[8], ARGV[9]
for _, lost in ipairs(call('ZRANGEBYSCORE', prefix .. ':reserved', '-inf', now(), 'LIMIT', 0, 20)) do
  call('ZREM', prefix .. ':reserved', lost)
  local found = call('HMGET', jobKey(lost), 'state', 'queue')
  if found[1] == 'waiting' and call('EXISTS', prefix .. ':queue:' .. found[2] .. ':job-' .. lost) == 0 then
    forget(lost)
    call('DEL', jobKey(lost), jobKey(lost) .. ':events')
  end
end
local known = call('HGET', jobKey(id), 'fingerprint')
local waiting = call('ZCARD', prefix .. ':waiting')
local ofClient = call('SCARD', prefix .. ':client:' .. client)
if not known and waiting < mostWaiting and ofClient < perClient then
  call('ZREM', prefix .. ':garbage', results)
  call('ZADD', prefix .. ':waiting', (100 - priority) * 2^40 + call('INCR', prefix .. ':added'), id)
  call('SADD', prefix .. ':client:' .. client, id)
  call('ZADD', prefix .. ':reserved', now() + patience, id)
  call('HSET', jobKey(id), 'state', 'waiting', 'client', client, 'priority', priority, 'queue', queue,
    'results', results, 'addedAt', now(), unpack(ARGV, 10))
  tellPositions()
end
return { known, waiting, ofClient }
`

/** The job is in BullMQ's queue. */
const confirm = `
local id, queue = ARGV[2], ARGV[3]
call('ZREM', prefix .. ':reserved', id)
call('PUBLISH', prefix .. ':work', queue)
`

/**
 * A worker begins a job. From now on only the holder of `owner` writes its events.
 *
 * → 'gone' or 'over', or state, request, inputs, status, images, number of the last event, crashes, whether it is
 * cancelled, milliseconds that it waited
 */
const begin = `
local id, owner = ARGV[2], ARGV[3]
local key = jobKey(id)
local state = call('HGET', key, 'state')
if not state then return { 'gone' } end
if state == 'over' then return { 'over' } end
call('HSET', key, 'state', 'running', 'owner', owner)
call('ZREM', prefix .. ':waiting', id)
call('SADD', prefix .. ':running', id)
call('DEL', key .. ':previews')
tellPositions()
local found = call('HMGET', key, 'request', 'inputs', 'status', 'images', 'lastEvent', 'crashes', 'cancelled', 'addedAt')
return { state, found[1], found[2], found[3], found[4], found[5], found[6], found[7], now() - tonumber(found[8]) }
`

/**
 * Appends an event of the worker that owns the job. Repeating a call changes nothing: a connection that breaks repeats
 * what was not answered.
 *
 * → 'lost' if another one owns it, or nobody; 'cancelled' or 'ok'
 */
const append = `
local id, owner, number, event, status = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local images, isLast, preview = ARGV[7], ARGV[8] == '1', ARGV[9]
local key = jobKey(id)
local found = call('HMGET', key, 'owner', 'lastEvent', 'cancelled')
if found[1] ~= owner then return 'lost' end
if tonumber(found[2]) < number then
  call('HSET', key, 'status', status)
  if images ~= '' then call('HSET', key, 'images', images) end
  if preview ~= '' then
    call('HSET', key .. ':previews', number, preview)
    for i = 10, #ARGV do call('HDEL', key .. ':previews', ARGV[i]) end
  end
  append(id, event, preview ~= '' and '1' or '', isLast)
  if isLast then finish(id) end
end
return found[3] and 'cancelled' or 'ok'
`

/**
 * Ends a job that no worker has, with an event. One that a worker has is cancelled by its worker if that is wanted.
 *
 * → 1 if it was ended here
 */
const endFree = `
local id, event, status, isCancelled = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local key = jobKey(id)
local found = call('HMGET', key, 'state', 'queue')
if not found[1] or found[1] == 'over' then return 0 end
if isCancelled then call('HSET', key, 'cancelled', 1) end
if found[1] == 'running' and call('EXISTS', lockKey(id, found[2])) == 1 then
  if isCancelled then call('PUBLISH', prefix .. ':cancel', id) end
  return 0
end
call('HSET', key, 'status', status)
append(id, event, '', true)
finish(id)
return 1
`

/**
 * → state, and the events after a number: of each its number and fields; no state if there is no such job
 */
const read = `
local id, after, most = ARGV[2], ARGV[3], ARGV[4]
local entries = call('XRANGE', jobKey(id) .. ':events', (after + 1) .. '-0', '+', 'COUNT', most)
return { call('HGET', jobKey(id), 'state'), entries }
`

/** → status, images, number of the last event, position; no status if there is no such job */
const status = `
local id = ARGV[2]
local found = call('HMGET', jobKey(id), 'status', 'images', 'lastEvent', 'state')
local rank = found[4] == 'waiting' and call('ZRANK', prefix .. ':waiting', id)
return { found[1], found[2], found[3], rank and rank + call('SCARD', prefix .. ':running') or 0 }
`

/** A worker hands a job back that it owns. → 1 if it owned it */
const release = `
local id, owner = ARGV[2], ARGV[3]
if call('HGET', jobKey(id), 'owner') ~= owner then return 0 end
call('HDEL', jobKey(id), 'owner')
return 1
`

/**
 * Takes a lock again that ran out, if nobody has noticed: a pause of Redis, or of this machine, is no reason to start anew.
 *
 * → 1 if the worker has the lock
 */
const relock = `
local id, owner, queue, duration = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if call('HGET', jobKey(id), 'owner') ~= owner then return 0 end
if not call('LPOS', prefix .. ':queue:' .. queue .. ':active', 'job-' .. id) then return 0 end
call('SET', lockKey(id, queue), owner, 'PX', duration)
call('SREM', prefix .. ':queue:' .. queue .. ':stalled', 'job-' .. id)
return 1
`

/**
 * The job whose turn it is in each queue.
 *
 * → queue, whether its worker died, priority, milliseconds that it has waited; for each that has one
 */
const heads = `
local result = {}
for i = 2, #ARGV do
  local key = prefix .. ':queue:' .. ARGV[i]
  local begun = call('LINDEX', key .. ':wait', -1)
  local next = begun or call('ZRANGE', key .. ':prioritized', 0, 0)[1]
  if next then
    local found = call('HMGET', jobKey(string.sub(next, 5)), 'priority', 'addedAt')
    local waited = found[2] and now() - tonumber(found[2]) or 0
    table.insert(result, { ARGV[i], begun and 1 or 0, tonumber(found[1] or 0), waited })
  end
end
return result
`

/** A worker says that it is there. → 0 if what it offers is not known and has to be sent as well */
const announce = `
local id, patience, state, offer = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key = prefix .. ':worker:' .. id
call('SADD', prefix .. ':workers', id)
call('SET', key, state, 'PX', patience)
for i = 6, #ARGV do call('HSET', prefix .. ':offered', ARGV[i], now()) end
if offer ~= '' then return call('SET', key .. ':offer', offer, 'PX', patience) and 1 end
return call('PEXPIRE', key .. ':offer', patience)
`

/** → lists of keys in the store that are to be deleted */
const due = `
return call('ZRANGEBYSCORE', prefix .. ':garbage', '-inf', now(), 'LIMIT', 0, 50)
`

/** → ids of jobs whose models nobody has offered for `patience`; models that no job waits for are forgotten */
const orphans = `
local patience = tonumber(ARGV[2])
local offered, result, isOrphan = call('HGETALL', prefix .. ':offered'), {}, {}
for i = 1, #offered, 2 do
  if now() - tonumber(offered[i + 1]) > patience then
    isOrphan[offered[i]] = true
    call('HDEL', prefix .. ':offered', offered[i])
  end
end
if not next(isOrphan) then return result end
for _, ids in ipairs({ call('ZRANGE', prefix .. ':waiting', 0, -1), call('SMEMBERS', prefix .. ':running') }) do
  for _, id in ipairs(ids) do
    local queue = call('HGET', jobKey(id), 'queue')
    if isOrphan[queue] then
      call('HSET', prefix .. ':offered', queue, now() - patience - 1)
      table.insert(result, id)
    end
  end
end
return result
`

type Argument = string | number | Buffer
type Room = [fingerprint: string | null, waiting: number, ofClient: number]
export type Begun =
  | ['gone' | 'over']
  | [
      state: 'waiting' | 'running',
      request: string,
      inputs: string,
      status: string,
      images: string,
      lastEvent: string,
      crashes: string | null,
      cancelled: string | null,
      waited: number,
    ]

const command = (lua: string) => ({ lua: COMMON + lua, numberOfKeys: 0 })

export const SCRIPTS = {
  fluxRoom: command(room),
  fluxReserve: command(reserve),
  fluxConfirm: command(confirm),
  fluxBegin: command(begin),
  fluxAppend: command(append),
  fluxEndFree: command(endFree),
  fluxRead: command(read),
  fluxStatus: command(status),
  fluxRelease: command(release),
  fluxRelock: command(relock),
  fluxHeads: command(heads),
  fluxAnnounce: command(announce),
  fluxDue: command(due),
  fluxOrphans: command(orphans),
}

/** {@link SCRIPTS} as methods of the client; the arguments are those that each script names first. */
export interface Scripts {
  fluxRoom(prefix: string, id: string, client: string): Promise<Room>
  fluxReserve(prefix: string, id: string, client: string, ...more: Argument[]): Promise<Room>
  fluxConfirm(prefix: string, id: string, queue: string): Promise<null>
  fluxBegin(prefix: string, id: string, owner: string): Promise<Begun>
  fluxAppend(
    prefix: string,
    id: string,
    owner: string,
    ...event: [
      number: number,
      event: string,
      status: string,
      images: string,
      isLast: 0 | 1,
      preview: Buffer | '',
      ...dropped: number[],
    ]
  ): Promise<'lost' | 'cancelled' | 'ok'>
  fluxEndFree(prefix: string, id: string, event: string, status: string, isCancelled: 0 | 1): Promise<0 | 1>
  fluxRead(
    prefix: string,
    id: string,
    after: number,
    most: number,
  ): Promise<[state: string | null, entries: [id: string, fields: string[]][]]>
  fluxStatus(
    prefix: string,
    id: string,
  ): Promise<[status: string | null, images: string, lastEvent: string, position: number]>
  fluxRelease(prefix: string, id: string, owner: string): Promise<0 | 1>
  fluxRelock(prefix: string, id: string, owner: string, queue: string, duration: number): Promise<0 | 1>
  fluxHeads(prefix: string, ...queues: string[]): Promise<[queue: string, 0 | 1, priority: number, waited: number][]>
  fluxAnnounce(
    prefix: string,
    id: string,
    patience: number,
    state: string,
    offer: string,
    ...queues: string[]
  ): Promise<0 | 1>
  fluxDue(prefix: string): Promise<string[]>
  fluxOrphans(prefix: string, patience: number): Promise<string[]>
}
