// scratch
import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { connect } from '../../services/client/client.ts';
import { startChild } from './child.ts';
import { cpuSeconds, memoryMb } from './process-stats.ts';
import type { LoadResult } from './load.ts';
const [,, which='throughput', conns='separate', secs='5', prof=''] = process.argv;
const dir = mkdtempSync('/tmp/lab/bench-');
const b = spawn(process.execPath, [...(prof? ['--cpu-prof','--cpu-prof-dir=/tmp/lab/prof']:[]), 'services/broker/main.ts','--listen','127.0.0.1:0','--data-dir',dir,'--log-format','json'],{stdio:['ignore','ignore','pipe']});
const address: string = await new Promise(res=>{ let s=''; b.stderr.on('data',(d:Buffer)=>{s+=d; const m=/"address":"([^"]+)"/.exec(s); if(m) res(m[1]!); if(/error|fatal/.test(String(d))) console.log(String(d));});});
const certs = dir+'/certs';
const client = connect({address, tls:{ca:certs+'/ca.crt',cert:certs+'/client.crt',key:certs+'/client.key'}});
const cases: any = {
 throughput: {partitions:1, subs:8, messageBytes:256, rate:0, keys:0},
 throughput4: {partitions:4, subs:8, messageBytes:256, rate:0, keys:0},
 large: {partitions:1, subs:8, messageBytes:65536, rate:0, keys:0},
 latency: {partitions:1, subs:8, messageBytes:256, rate:1000, keys:0},
 ordered: {partitions:4, subs:1, consumers:8, messageBytes:256, rate:0, keys:1000, ordering:true},
 one: {partitions:1, subs:1, messageBytes:256, rate:0, keys:0},
 many: {partitions:1, subs:64, messageBytes:256, rate:0, keys:0},
};
const c = cases[which];
await client.admin.createTopic('bench', {partitions:c.partitions});
const subs:string[]=[];
for (let i=0;i<c.subs;i++){ await client.admin.createSubscription('sub'+i,{topic:'bench', ordering: !!c.ordering, ackDeadlineSeconds: 60}); for(let k=0;k<(c.consumers??1);k++) subs.push('sub'+i); }
const load = startChild('./load.ts', {address, certs, topic:'bench', subscriptions:subs, connections:conns, messageBytes:c.messageBytes, rate:c.rate, seconds:Number(secs), warmupSeconds:2, keys:c.keys, outstandingMessages:20000, outstandingBytes:16<<20});
await load.next('ready'); load.send('start'); await load.next('measuring');
const c0=cpuSeconds(b.pid!); const r=await load.next<LoadResult>('measured'); const cpu=cpuSeconds(b.pid!)-c0;
console.log(which, conns, {pubPerS:Math.round(r.published/r.seconds), delPerS:Math.round(r.delivered/r.seconds), delPerBrokerCpuS:Math.round(r.delivered/cpu), brokerCpu:(cpu/r.seconds).toFixed(2), clientCpu:(r.clientCpuSeconds/r.seconds).toFixed(2), p50:r.p50Ms.toFixed(2), p99:r.p99Ms.toFixed(2), p999:r.p999Ms.toFixed(2), ...memoryMb(b.pid!)});
console.log("closing"); await client.close(); console.log("closed"); b.stderr.on("data",(d:Buffer)=>process.stdout.write(d)); b.kill('SIGTERM'); await new Promise(r=>b.on('exit',r)); process.exit(0);
