// Package plainjson writes a change as one JSON object on one line, for people, jq and consumers without Avro: the "json"
// message format and the lines of the stdout sink.
//
//	{"id":"20260102T030405.123456Z-t-1512345.1800000000.110",
//	 "commit_timestamp":"2026-01-02T03:04:05.123456Z","transaction":"12345","sequence":"00000000","mod":0,
//	 "table":"shop.stock","op":"UPDATE","capture":"NEW_ROW_AND_OLD_VALUES",
//	 "tag":"app=checkout","system":true,"snapshot":true,"records":3,"partitions":1,
//	 "key":{"store":"north","item":"AA=="},
//	 "after":{"amount":"41","price":null},"before":{"amount":"42"}}
//
// Nothing is lost. Values are the JSON that Spanner sent, byte for byte but for line breaks between tokens: INT64 and
// NUMERIC as strings of digits, BYTES in base64, a JSON column as a string that holds JSON text. A column that was not
// captured is absent, one that is NULL is null; after and before are always there, {} if they have no columns. tag, system
// and snapshot are left out when they are empty or false. Members may be added; readers ignore those they do not know.
//
// The package imports package change and the standard library only.
package plainjson
