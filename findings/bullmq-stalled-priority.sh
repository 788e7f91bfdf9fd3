#!/usr/bin/env bash
# BullMQ 6.7.0 with ioredis 6.0.0, redis-server 7.0.15: a stalled job loses its priority.
#
# Jobs with a priority wait in a sorted set, and a job that stalled (its worker died) might be expected back in its place there. The stalled check
# puts it into the list of jobs without priority instead, and that list is served first. So a job of the lowest priority whose worker died comes before
# every waiting job of the highest one. `job.moveToWait(token)`, by which a worker gives a job back itself, keeps the priority.
#
# A second surprise, on which the first one rests when jobs are fetched by hand: a Worker whose processor is `null` renews no locks and checks for no
# stalled jobs until `startStalledCheckTimer()` is called, and `extendLock` is left to the caller.
#
# Output seen:
#   after the stalled check: low, priority in the job 100, in the list of jobs without priority: yes
#   next: low, high
#   after moveToWait: next: high, low
set -euo pipefail
command -v redis-server > /dev/null || { echo 'redis-server is not installed (Debian: apt install redis-server)'; exit 2; }
cd "$(mktemp -d)"
echo '{ "private": true, "type": "module" }' > package.json
npm install --silent --no-audit --no-fund bullmq@6.7.0 ioredis@6.0.0
redis-server --unixsocket "$PWD/redis.sock" --port 0 --save '' --daemonize yes --logfile "$PWD/redis.log" --pidfile "$PWD/redis.pid" > /dev/null
trap 'kill "$(cat redis.pid)"' EXIT
until [[ -S redis.sock ]]; do sleep 0.1; done
cat > run.mjs <<'JS'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { setTimeout as sleep } from 'node:timers/promises'
const connection = new Redis(new URL('redis.sock', import.meta.url).pathname, { maxRetriesPerRequest: null })
const priorities = { low: 100, high: 1 }

async function order(worker) {
  const names = []
  for (let job; (job = await worker.getNextJob('t', { block: false })); ) names.push(job.name)
  return names.join(', ')
}

const queue = new Queue('stalled', { connection })
const fetching = { connection, lockDuration: 200, stalledInterval: 100, maxStalledCount: 1 }
const worker = new Worker('stalled', null, fetching)
await queue.add('low', {}, { priority: priorities.low })
const low = await worker.getNextJob('t', { block: false })
await queue.add('high', {}, { priority: priorities.high })
await sleep(500) // the lock is not renewed, and nothing has been checked so far
if ((await queue.getJobCounts('active')).active !== 1) throw new Error('the job was taken back without a check')
await worker.startStalledCheckTimer()
while ((await queue.getJobCounts('active')).active > 0) await sleep(50)
const waiting = await connection.lrange('bull:stalled:wait', 0, -1)
const { priority } = await queue.getJob(low.id)
console.log(`after the stalled check: low, priority in the job ${priority}, in the list of jobs without priority: ${waiting.includes(low.id) ? 'yes' : 'no'}`)
console.log(`next: ${await order(worker)}`)
await worker.close(true)

const other = new Queue('handed', { connection })
const hands = new Worker('handed', null, { connection, lockDuration: 60_000 })
await other.add('low', {}, { priority: priorities.low })
const back = await hands.getNextJob('t', { block: false })
await other.add('high', {}, { priority: priorities.high })
await back.moveToWait('t')
console.log(`after moveToWait: next: ${await order(hands)}`)
await hands.close(true)
await queue.close()
await other.close()
connection.disconnect()
JS
node run.mjs 2>/dev/null | tee seen.txt
diff seen.txt - <<'SEEN'
after the stalled check: low, priority in the job 100, in the list of jobs without priority: yes
next: low, high
after moveToWait: next: high, low
SEEN
