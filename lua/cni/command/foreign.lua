-- SPDX-License-Identifier: MIT
--- What is known of the configuration of others' types, those of the reference plugins that luacni has not:
-- for `luacni validate`. Nothing here is served.
-- @module cni.command.foreign

local schema = require "cni.schema"

local text = schema.string { empty = "absent" }
local count = schema.integer { min = 0 }

local option = schema.record { option = schema.string { required = true }, value = text, fromArg = text }

--- By type: what it takes, as of @{cni.schema}.
return {
  dhcp = schema.record {
    ipam = schema.record {
      type = schema.string, daemonSocketPath = text, priority = count, provide = schema.list(option),
      request = schema.list(schema.record {
        option = schema.string { required = true }, skipDefault = schema.boolean,
      }),
    },
  },
}
