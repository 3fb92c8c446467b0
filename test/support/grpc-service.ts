// Turns a service descriptor and handlers into what grpc-js serves, messages decoded by protobuf-es. For
// fakes.
import {
  type Message as AnyMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  toBinary,
} from '@bufbuild/protobuf';
import type {
  handleBidiStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  ServiceDefinition,
  status,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';

export type Handler =
  | handleUnaryCall<AnyMessage, AnyMessage>
  | handleServerStreamingCall<AnyMessage, AnyMessage>
  | handleBidiStreamingCall<AnyMessage, AnyMessage>;

export function unary<Request extends AnyMessage>(answer: (request: Request) => AnyMessage): Handler {
  return (call, callback) => {
    try {
      callback(null, answer(call.request as Request));
    } catch (error) {
      callback(error as { code: status; details: string });
    }
  };
}

export function service(
  descriptor: DescService,
  handlers: Readonly<Record<string, unknown>>,
): [ServiceDefinition, UntypedServiceImplementation] {
  const definition: Record<string, ServiceDefinition[string]> = {};
  for (const method of descriptor.methods) {
    if (handlers[method.localName] === undefined) continue;
    definition[method.localName] = methodDefinition(descriptor, method);
  }
  return [definition, handlers as UntypedServiceImplementation];
}

function methodDefinition(descriptor: DescService, method: DescMethod): ServiceDefinition[string] {
  const encode = (schema: DescMethod['input']) => (message: AnyMessage) =>
    Buffer.from(toBinary(schema, message));
  const decode = (schema: DescMethod['input']) => (bytes: Buffer) => fromBinary(schema, bytes);
  return {
    path: `/${descriptor.typeName}/${method.name}`,
    requestStream: method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming',
    responseStream: method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming',
    requestSerialize: encode(method.input),
    requestDeserialize: decode(method.input),
    responseSerialize: encode(method.output),
    responseDeserialize: decode(method.output),
  };
}
