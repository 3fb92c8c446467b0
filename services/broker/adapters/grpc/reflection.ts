// grpc.reflection.v1 and v1alpha: what services there are and what their messages look like, for grpcurl and
// the like.
import {
  createRegistry,
  type DescFile,
  type DescMessage,
  type DescService,
  type MessageInitShape,
  type Registry,
  toBinary,
} from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { BrokerError } from '../../core/errors.ts';
import { quote } from '../../core/names.ts';
import { methodOf, REFLECTION_SERVICES, reflectionDescriptor } from './grpc-descriptors.ts';
import { type GrpcService, grpcService, type RpcBorder } from './rpc.ts';
import { statusOf } from './status.ts';

type Dynamic = MessageInitShape<DescMessage>;

interface ReflectionRequest {
  readonly host: string;
  readonly messageRequest:
    | {
        readonly case: 'fileByFilename' | 'fileContainingSymbol' | 'allExtensionNumbersOfType';
        readonly value: string;
      }
    | { readonly case: 'fileContainingExtension' | 'listServices'; readonly value: unknown }
    | { readonly case: undefined };
}

/** Both versions of the service. They describe `services` and themselves. */
export function reflectionServices(
  border: RpcBorder,
  services: readonly DescService[],
): readonly GrpcService[] {
  const own = REFLECTION_SERVICES.map(reflectionDescriptor);
  const described = [...services, ...own];
  const names = described.map((service) => service.typeName).sort();
  const files = new Map(
    described.flatMap(({ file }) => withDependencies(file)).map((file) => [file.proto.name, file]),
  );
  const registry = createRegistry(...files.values());
  return own.map((descriptor) =>
    grpcService(descriptor, {
      serverReflectionInfo: border.bidiStream(
        methodOf(descriptor, 'ServerReflectionInfo', 'bidi_streaming'),
        (request) => respond(request as unknown as ReflectionRequest, names, files, registry) as Dynamic,
      ),
    }),
  );
}

function respond(
  request: ReflectionRequest,
  names: readonly string[],
  files: ReadonlyMap<string, DescFile>,
  registry: Registry,
): object {
  const echo = { validHost: request.host, originalRequest: request };
  try {
    return { ...echo, messageResponse: answer(request, names, files, registry) };
  } catch (error) {
    // The error is an answer inside the stream, which stays open.
    const { code, details } = statusOf(error);
    const value = { errorCode: code, errorMessage: details };
    return { ...echo, messageResponse: { case: 'errorResponse', value } };
  }
}

function answer(
  { messageRequest: request }: ReflectionRequest,
  names: readonly string[],
  files: ReadonlyMap<string, DescFile>,
  registry: Registry,
): object {
  switch (request.case) {
    case 'listServices':
      return { case: 'listServicesResponse', value: { service: names.map((name) => ({ name })) } };
    case 'fileByFilename':
      return filesResponse(files.get(request.value), request.value);
    case 'fileContainingSymbol':
      return filesResponse(fileOf(registry, request.value), request.value);
    case 'allExtensionNumbersOfType': {
      if (!registry.getMessage(request.value)) throw unknown(request.value);
      return { case: 'allExtensionNumbersResponse', value: { baseTypeName: request.value } };
    }
    case 'fileContainingExtension':
      throw new BrokerError('NOT_FOUND', 'there are no extensions here');
    default:
      throw new BrokerError('INVALID_ARGUMENT', 'message_request is not set');
  }
}

/** The file of a message, enum or service, or of a method (the last part left out). */
function fileOf(registry: Registry, symbol: string): DescFile | undefined {
  const described = registry.get(symbol);
  if (described) return described.file;
  const dot = symbol.lastIndexOf('.');
  const method = symbol.slice(dot + 1);
  const service = registry.getService(symbol.slice(0, dot));
  return service?.methods.some(({ name }) => name === method) ? service.file : undefined;
}

function filesResponse(file: DescFile | undefined, asked: string): object {
  if (file === undefined) throw unknown(asked);
  const fileDescriptorProto = withDependencies(file).map(({ proto }) =>
    toBinary(FileDescriptorProtoSchema, proto),
  );
  return { case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
}

/** The file first, then all that it needs, each once. */
function withDependencies(file: DescFile, seen = new Set<DescFile>()): readonly DescFile[] {
  if (!seen.has(file)) {
    seen.add(file);
    for (const dependency of file.dependencies) withDependencies(dependency, seen);
  }
  return [...seen];
}

function unknown(name: string): BrokerError {
  return new BrokerError('NOT_FOUND', `nothing here is called ${quote(name)}`);
}
