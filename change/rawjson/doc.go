// Package rawjson reads the JSON values that change records carry, as the encodings need them: without a tree, without copying
// where that can be, and strictly. Spanner's form of each type is in the documentation of change.Value; what is not of that form is
// answered with false, and an encoding then keeps the value as it came.
//
// Values are trimmed (Trim) once by whoever begins with one.
package rawjson
