// A client that opens many Subscribe streams with the widest windows, says so, and is then stopped by its
// parent (SIGSTOP): nothing of what it is sent is ever read.
import { constants } from 'node:http2';
import { create, toBinary } from '@bufbuild/protobuf';
import { SubscribeRequestSchema, Subscriber } from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { FuzzConnection, type FuzzTls } from './fuzz-connection.ts';
import { framed } from './fuzz-mutate.ts';

interface Plan {
  readonly address: string;
  readonly tls: FuzzTls;
  readonly subscription: string;
  readonly streams: number;
}

const { address, tls, subscription, streams }: Plan = JSON.parse(process.argv[2]!);
const WIDEST = 2 ** 31 - 1;
const connection = await FuzzConnection.open(address, tls, WIDEST);
connection.session.setLocalWindowSize(WIDEST);
const request = framed(
  toBinary(
    SubscribeRequestSchema,
    create(SubscribeRequestSchema, { subscription, maxOutstandingBytes: 64n << 20n }),
  ),
);
const path = `/${Subscriber.typeName}/${Subscriber.method.subscribe.name}`;
for (let nth = 0; nth < streams; nth += 1) {
  const stream = connection.start(path);
  stream.on('error', () => stream.close(constants.NGHTTP2_CANCEL));
  stream.write(request);
}
await connection.ping();
process.stdout.write('ready\n');
