-- SPDX-License-Identifier: MIT
--- What is known of the configuration of others' types, those of the reference plugins that luacni has not:
-- for `luacni validate`. Nothing here is served.
-- @module cni.command.foreign

local schema = require "cni.schema"

local text = schema.string { empty = "absent" }
local count = schema.integer { min = 0 }

local function together(a, b)
  return function(conf)
    if (conf[a] == nil) ~= (conf[b] == nil) then return ("%s and %s go together"):format(a, b) end
  end
end

local function limits()
  return { ingressRate = count, ingressBurst = count, egressRate = count, egressBurst = count }
end

local function limited(record)
  return record:check(together("ingressRate", "ingressBurst")):check(together("egressRate", "egressBurst"))
end

local bandwidth = limits()
bandwidth.runtimeConfig = schema.record { bandwidth = limited(schema.record(limits())) }

local option = schema.record { option = schema.string { required = true }, value = text, fromArg = text }

--- By type: what it takes, as of @{cni.schema}.
return {
  bandwidth = limited(schema.record(bandwidth)),
  dhcp = schema.record {
    ipam = schema.record {
      type = schema.string, daemonSocketPath = text, priority = count, provide = schema.list(option),
      request = schema.list(schema.record {
        option = schema.string { required = true }, skipDefault = schema.boolean,
      }),
    },
  },
}
