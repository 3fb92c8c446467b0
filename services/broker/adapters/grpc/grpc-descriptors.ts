// gRPC's own services, health and reflection, as descriptors: fields, numbers and types of
// grpc/health/v1/health.proto and grpc/reflection/v1/reflection.proto. They are written out here because they
// are small, fixed for ever, and not ours to generate.
import {
  createFileRegistry,
  type DescMethod,
  type DescService,
  fromJson,
  type JsonValue,
} from '@bufbuild/protobuf';
import { type FileDescriptorProto, FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { assert } from '../../core/errors.ts';

export const HEALTH_SERVICE = 'grpc.health.v1.Health';
export const REFLECTION_SERVICES = [
  'grpc.reflection.v1.ServerReflection',
  'grpc.reflection.v1alpha.ServerReflection',
] as const;

export function healthDescriptor(): DescService {
  return service(HEALTH_SERVICE, {
    name: 'grpc/health/v1/health.proto',
    package: 'grpc.health.v1',
    syntax: 'proto3',
    messageType: [
      { name: 'HealthCheckRequest', field: [field('service', 1, 'TYPE_STRING')] },
      {
        name: 'HealthCheckResponse',
        field: [
          field('status', 1, 'TYPE_ENUM', { typeName: '.grpc.health.v1.HealthCheckResponse.ServingStatus' }),
        ],
        enumType: [
          {
            name: 'ServingStatus',
            value: ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'].map((name, number) => ({
              name,
              number,
            })),
          },
        ],
      },
      { name: 'HealthListRequest' },
      {
        name: 'HealthListResponse',
        field: [repeated('statuses', 1, 'TYPE_MESSAGE', '.grpc.health.v1.HealthListResponse.StatusesEntry')],
        nestedType: [
          {
            name: 'StatusesEntry',
            field: [
              field('key', 1, 'TYPE_STRING'),
              field('value', 2, 'TYPE_MESSAGE', { typeName: '.grpc.health.v1.HealthCheckResponse' }),
            ],
            options: { mapEntry: true },
          },
        ],
      },
    ],
    service: [
      {
        name: 'Health',
        method: [
          method('Check', '.grpc.health.v1.HealthCheckRequest', '.grpc.health.v1.HealthCheckResponse'),
          method('List', '.grpc.health.v1.HealthListRequest', '.grpc.health.v1.HealthListResponse'),
          method('Watch', '.grpc.health.v1.HealthCheckRequest', '.grpc.health.v1.HealthCheckResponse', {
            serverStreaming: true,
          }),
        ],
      },
    ],
  });
}

/** The descriptor of v1 or v1alpha, which differ in the package only. */
export function reflectionDescriptor(name: (typeof REFLECTION_SERVICES)[number]): DescService {
  const pkg = name.slice(0, name.lastIndexOf('.'));
  const type = (message: string): string => `.${pkg}.${message}`;
  return service(name, {
    name: `${pkg.replaceAll('.', '/')}/reflection.proto`,
    package: pkg,
    syntax: 'proto3',
    messageType: [
      {
        name: 'ServerReflectionRequest',
        field: [
          field('host', 1, 'TYPE_STRING'),
          choice('file_by_filename', 3, 'TYPE_STRING'),
          choice('file_containing_symbol', 4, 'TYPE_STRING'),
          choice('file_containing_extension', 5, 'TYPE_MESSAGE', type('ExtensionRequest')),
          choice('all_extension_numbers_of_type', 6, 'TYPE_STRING'),
          choice('list_services', 7, 'TYPE_STRING'),
        ],
        oneofDecl: [{ name: 'message_request' }],
      },
      {
        name: 'ExtensionRequest',
        field: [field('containing_type', 1, 'TYPE_STRING'), field('extension_number', 2, 'TYPE_INT32')],
      },
      {
        name: 'ServerReflectionResponse',
        field: [
          field('valid_host', 1, 'TYPE_STRING'),
          field('original_request', 2, 'TYPE_MESSAGE', { typeName: type('ServerReflectionRequest') }),
          choice('file_descriptor_response', 4, 'TYPE_MESSAGE', type('FileDescriptorResponse')),
          choice('all_extension_numbers_response', 5, 'TYPE_MESSAGE', type('ExtensionNumberResponse')),
          choice('list_services_response', 6, 'TYPE_MESSAGE', type('ListServiceResponse')),
          choice('error_response', 7, 'TYPE_MESSAGE', type('ErrorResponse')),
        ],
        oneofDecl: [{ name: 'message_response' }],
      },
      { name: 'FileDescriptorResponse', field: [repeated('file_descriptor_proto', 1, 'TYPE_BYTES')] },
      {
        name: 'ExtensionNumberResponse',
        field: [field('base_type_name', 1, 'TYPE_STRING'), repeated('extension_number', 2, 'TYPE_INT32')],
      },
      {
        name: 'ListServiceResponse',
        field: [repeated('service', 1, 'TYPE_MESSAGE', type('ServiceResponse'))],
      },
      { name: 'ServiceResponse', field: [field('name', 1, 'TYPE_STRING')] },
      {
        name: 'ErrorResponse',
        field: [field('error_code', 1, 'TYPE_INT32'), field('error_message', 2, 'TYPE_STRING')],
      },
    ],
    service: [
      {
        name: 'ServerReflection',
        method: [
          method('ServerReflectionInfo', type('ServerReflectionRequest'), type('ServerReflectionResponse'), {
            clientStreaming: true,
            serverStreaming: true,
          }),
        ],
      },
    ],
  });
}

type Json = { [key: string]: JsonValue };

function service(name: string, file: Json): DescService {
  const proto: FileDescriptorProto = fromJson(FileDescriptorProtoSchema, file);
  const found = createFileRegistry(proto, (): undefined => undefined).getService(name);
  assert(found, `the descriptor holds ${name}`);
  return found;
}

/**
 * A method of a service whose messages have no generated types: its handler casts what it takes and gives.
 */
export function methodOf<Kind extends DescMethod['methodKind']>(
  service: DescService,
  name: string,
  kind: Kind,
): DescMethod & { methodKind: Kind } {
  const found = service.methods.find((method) => method.name === name);
  assert(found?.methodKind === kind, `${service.typeName} has ${name}`);
  return found as DescMethod & { methodKind: Kind };
}

function field(name: string, number: number, type: string, more: Json = {}): Json {
  return { name, number, type, label: 'LABEL_OPTIONAL', ...more };
}

function choice(name: string, number: number, type: string, typeName?: string): Json {
  return field(name, number, type, { oneofIndex: 0, ...(typeName !== undefined && { typeName }) });
}

function repeated(name: string, number: number, type: string, typeName?: string): Json {
  return field(name, number, type, { label: 'LABEL_REPEATED', ...(typeName !== undefined && { typeName }) });
}

function method(name: string, inputType: string, outputType: string, more: Json = {}): Json {
  return { name, inputType, outputType, ...more };
}
