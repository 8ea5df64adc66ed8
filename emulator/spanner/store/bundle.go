package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// ProtoBundle holds the protocol buffer types that a database knows, with their descriptors. It is immutable; a nil
// bundle holds no types.
type ProtoBundle struct {
	files *descriptorpb.FileDescriptorSet
	types map[string]*Type
}

// maxBundleBytes is Spanner's limit on the size of a bundle.
const maxBundleBytes = 5 << 20

// NewProtoBundle makes a bundle of the named messages and enums, which descriptors, a serialized FileDescriptorSet, defines.
// The error is INVALID_ARGUMENT for bad descriptors and NOT_FOUND for a name that they do not define.
func NewProtoBundle(descriptors []byte, names []string) (*ProtoBundle, error) {
	files, err := readDescriptors(descriptors)
	if err != nil {
		return nil, err
	}
	return newBundle(files, names)
}

// Alter returns the bundle with types added, replaced by those of descriptors, and removed. Types that are not named keep
// their definitions, whatever descriptors says of them. The error is ALREADY_EXISTS for an added type that is there and
// NOT_FOUND for a replaced or removed one that is not; others are those of NewProtoBundle.
func (b *ProtoBundle) Alter(descriptors []byte, insert, update, remove []string) (*ProtoBundle, error) {
	files, err := readDescriptors(descriptors)
	if err != nil {
		return nil, err
	}
	names := maps.Clone(b.types)
	for _, n := range insert {
		if names[n] != nil {
			return nil, Errorf(codes.AlreadyExists, "Tried to insert `%s` which already exists in the proto bundle.", n)
		}
		names[n] = &Type{}
	}
	for _, n := range update {
		if b.types[n] == nil {
			return nil, Errorf(codes.NotFound, "Tried to update `%s` which does not already exist.", n)
		}
	}
	for _, n := range remove {
		if b.types[n] == nil {
			return nil, Errorf(codes.NotFound, "Tried to delete `%s` which does not already exist.", n)
		}
		delete(names, n)
	}
	fresh := slices.Concat(insert, update)
	all := slices.Sorted(maps.Keys(names))
	kept := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return slices.Contains(fresh, n) })
	for _, n := range fresh {
		if !defines(files, n) {
			return nil, missingDescriptor(n)
		}
	}
	return newBundle(mergeFiles(b.files, files, fresh, kept), all)
}

func missingDescriptor(name string) error {
	return Errorf(codes.NotFound, "Missing descriptor for `%s`: proto_descriptors does not define it", name)
}

func readDescriptors(b []byte) (*descriptorpb.FileDescriptorSet, error) {
	if len(b) == 0 {
		return nil, Errorf(codes.InvalidArgument, "Contents of proto_descriptor_file cannot be empty: statements about the proto bundle need proto_descriptors")
	}
	if len(b) > maxBundleBytes {
		return nil, Errorf(codes.InvalidArgument, "proto_descriptors has %d bytes; a proto bundle may have %d", len(b), maxBundleBytes)
	}
	files := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(b, files); err != nil {
		return nil, Errorf(codes.InvalidArgument, "proto_descriptors is not a serialized google.protobuf.FileDescriptorSet: %v", err)
	}
	return files, nil
}

func newBundle(files *descriptorpb.FileDescriptorSet, names []string) (*ProtoBundle, error) {
	registry, err := protodesc.NewFiles(files)
	if err != nil {
		return nil, Errorf(codes.InvalidArgument, "proto_descriptors cannot be used: %v (it must hold every imported file: protoc --include_imports --descriptor_set_out)", err)
	}
	b := &ProtoBundle{files: files, types: make(map[string]*Type, len(names))}
	for _, n := range names {
		d, err := registry.FindDescriptorByName(protoreflect.FullName(n))
		if err != nil {
			return nil, missingDescriptor(n)
		}
		switch d := d.(type) {
		case protoreflect.MessageDescriptor:
			b.types[n] = &Type{Code: Proto, Name: n, Descriptor: d}
		case protoreflect.EnumDescriptor:
			b.types[n] = &Type{Code: Enum, Name: n, Descriptor: d}
		default:
			return nil, Errorf(codes.InvalidArgument, "`%s` is neither a message nor an enum", n)
		}
	}
	return b, nil
}

// Type finds a type by its fully qualified name, or returns nil.
func (b *ProtoBundle) Type(name string) *Type {
	if b == nil {
		return nil
	}
	return b.types[name]
}

// Names are the names of the types, sorted.
func (b *ProtoBundle) Names() []string {
	if b == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(b.types))
}

// Descriptors is the serialized FileDescriptorSet that defines the types, empty for a nil bundle.
func (b *ProtoBundle) Descriptors() ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(b.files)
	if err != nil {
		return nil, fmt.Errorf("proto descriptors: %w", err)
	}
	return out, nil
}

// within reports whether a name is that of one of the types or of something around one.
func within(name string, types []string) bool {
	return slices.ContainsFunc(types, func(t string) bool { return t == name || strings.HasPrefix(t, name+".") })
}

func fullName(f *descriptorpb.FileDescriptorProto, name string) string {
	if f.GetPackage() == "" {
		return name
	}
	return f.GetPackage() + "." + name
}

// defines reports whether a type is among the top-level types of the files or nested in them.
func defines(files *descriptorpb.FileDescriptorSet, name string) bool {
	for _, f := range files.GetFile() {
		for _, m := range f.GetMessageType() {
			if top := fullName(f, m.GetName()); top == name || strings.HasPrefix(name, top+".") {
				return true
			}
		}
		for _, e := range f.GetEnumType() {
			if fullName(f, e.GetName()) == name {
				return true
			}
		}
	}
	return false
}

// mergeFiles puts the definitions of the kept types of old into new. A top-level type comes from new if it holds a fresh
// type or no kept one.
func mergeFiles(old, next *descriptorpb.FileDescriptorSet, fresh, kept []string) *descriptorpb.FileDescriptorSet {
	out := proto.Clone(next).(*descriptorpb.FileDescriptorSet)
	byPath := map[string]*descriptorpb.FileDescriptorProto{}
	messages := map[string]**descriptorpb.DescriptorProto{}
	enums := map[string]**descriptorpb.EnumDescriptorProto{}
	home := map[string]*descriptorpb.FileDescriptorProto{}
	for _, f := range out.GetFile() {
		byPath[f.GetName()] = f
		for i, m := range f.GetMessageType() {
			n := fullName(f, m.GetName())
			messages[n], home[n] = &f.MessageType[i], f
		}
		for i, e := range f.GetEnumType() {
			n := fullName(f, e.GetName())
			enums[n], home[n] = &f.EnumType[i], f
		}
	}
	imports := func(to, from *descriptorpb.FileDescriptorProto) {
		for _, d := range from.GetDependency() {
			if d != to.GetName() && !slices.Contains(to.GetDependency(), d) {
				to.Dependency = append(to.Dependency, d)
			}
		}
	}
	for _, was := range old.GetFile() {
		f := proto.Clone(was).(*descriptorpb.FileDescriptorProto)
		g := byPath[f.GetName()]
		rest := &descriptorpb.FileDescriptorProto{}
		for _, m := range f.GetMessageType() {
			n := fullName(f, m.GetName())
			switch there := messages[n]; {
			case there == nil:
				rest.MessageType = append(rest.MessageType, m)
			case within(n, kept) && !within(n, fresh):
				*there = m
				imports(home[n], f)
			}
		}
		for _, e := range f.GetEnumType() {
			n := fullName(f, e.GetName())
			switch there := enums[n]; {
			case there == nil:
				rest.EnumType = append(rest.EnumType, e)
			case within(n, kept) && !within(n, fresh):
				*there = e
			}
		}
		if g != nil {
			g.MessageType = append(g.MessageType, rest.MessageType...)
			g.EnumType = append(g.EnumType, rest.EnumType...)
			imports(g, f)
			continue
		}
		f.MessageType, f.EnumType = rest.MessageType, rest.EnumType
		out.File = append(out.File, f)
	}
	return out
}
