-- SPDX-License-Identifier: MIT
-- luacni schema: what a reader of a script takes, the JSON Schema takes, by the judgement of somebody else's
-- validator; and where a value of a wrong kind is refused by the one, it is by the other.

local json = require "cni.json"
local plugins = require "plugins"
local schema = require "cni.schema"
local t = require "support"

local dir = "/run/spec/schema"

-- One configuration a line; one word a line comes back.
local judge = [[
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for line in open(sys.argv[2]):
    error = next(validator.iter_errors(json.loads(line)), None)
    print("yes" if error is None else "no: " + error.message[:200])
]]

local function verdicts(texts)
  t.write(dir .. "/judge.py", judge)
  t.write(dir .. "/confs", table.concat(texts, "\n") .. "\n")
  t.write(dir .. "/schema.json", (t.run { t.build .. "/luacni", "schema" }))
  local list = {}
  for line in t.run({ "python3", dir .. "/judge.py", dir .. "/schema.json", dir .. "/confs" },
    { timeout = 300 }):gmatch("[^\n]+") do
    list[#list + 1] = line
  end
  assert.equal(#texts, #list)
  return list
end

local scripts = {}
local function conf_of(type_name)
  scripts[type_name] = scripts[type_name] or dofile("plugins/" .. type_name .. ".lua")
  return scripts[type_name].conf
end

-- Whether the readers of a configuration's types take it.
local function is_read(raw)
  if not raw.name then return false end
  for _, name in ipairs { raw.type, type(raw.ipam) == "table" and raw.ipam.type or nil } do
    local known = type(name) == "string" and io.open("plugins/" .. name .. ".lua")
    if known then
      known:close()
      local conf = conf_of(name)
      if conf and not pcall(schema.read, conf, raw) then return false end
    end
  end
  return true
end

-- Every configuration that the specs have for both sides, and those of the table of plugins.
local function configurations()
  local list = {}
  local function put(conf)
    -- In the cases false takes a key out.
    local whole = t.merge({ cniVersion = "1.0.0", name = "net" }, conf)
    for _, key in ipairs { "cniVersion", "name", "type", "bridge", "ipam" } do
      if whole[key] == false then whole[key] = nil end
    end
    list[#list + 1] = json.decode(t.json(whole), "conf", { object = true })
  end
  for _, name in ipairs { "differential_cases", "differential_ipam_cases", "differential_interface_cases" } do
    for _, case in ipairs(require(name)) do
      if type(case.conf) == "table" then put(t.merge({ type = case.type }, case.conf)) end
    end
  end
  for _, entry in ipairs(plugins.list) do put(plugins.conf(entry, 1)) end
  return list
end

-- A configuration once for each of its values, that value being of another kind.
local function mutations(raw)
  local list = {}
  local function walk(value, put)
    for key, item in pairs(value) do
      -- What the runtime reads is not for the types' readers.
      if key ~= "type" and key ~= "name" and key ~= "cniVersion" and key ~= "capabilities" then
        for _, other in ipairs { "{\"x\":1}", "[[1]]", "\"\"", "true", "1.5", "-7", "99999999999" } do
          list[#list + 1] = put(key, json.decode(other, "mutation"))
        end
        if type(item) == "table" then
          walk(item, function(inner, changed)
            local copy = {}
            for k, v in pairs(item) do copy[k] = v end
            copy[inner] = changed
            return put(key, json.is_list(item) and json.list(copy) or copy)
          end)
        end
      end
    end
  end
  walk(raw, function(key, changed)
    local copy = {}
    for k, v in pairs(raw) do copy[k] = v end
    copy[key] = changed
    return copy
  end)
  return list
end

describe("luacni schema", function()
  before_each(function() t.run("mkdir -p " .. dir) end)
  after_each(function() t.run("rm -rf " .. dir) end)

  it("takes every configuration that is read", function()
    t.needs("jsonschema")
    local texts, read, taken = {}, {}, 0
    for _, raw in ipairs(configurations()) do
      texts[#texts + 1] = json.compact(raw)
      read[#texts] = is_read(raw)
    end
    for i, said in ipairs(verdicts(texts)) do
      if read[i] then
        assert.equal("yes", said, texts[i])
        taken = taken + 1
      end
    end
    assert.is_true(taken > 150, "only " .. taken)
  end)

  it("refuses values of another kind where they are not read, and never where they are", function()
    t.needs("jsonschema")
    local texts, read, seen = {}, {}, {}
    for _, raw in ipairs(configurations()) do
      for _, changed in ipairs(is_read(raw) and mutations(raw) or {}) do
        local text = json.compact(changed)
        if not seen[text] and #texts < 6000 then
          seen[text] = true
          texts[#texts + 1] = text
          read[#texts] = is_read(changed)
        end
      end
    end
    local refused, missed = 0, {}
    for i, said in ipairs(verdicts(texts)) do
      if read[i] then
        assert.equal("yes", said, texts[i])
      elseif said ~= "yes" then
        refused = refused + 1
      else
        missed[#missed + 1] = texts[i]
      end
    end
    -- What a text means is for the reader alone: "" where an address is wanted.
    for _, text in ipairs(missed) do assert.truthy(text:find('""', 1, true), text) end
    assert.is_true(refused > 1000, "only " .. refused)
  end)

  it("is for lists too, and leaves others' types alone", function()
    t.needs("jsonschema")
    local said = verdicts {
      '{"name":"n","plugins":[{"type":"bridge","mtu":1400},{"type":"portmap","x":[1]}]}',
      '{"name":"n","plugins":[{"type":"bridge","mtu":"1400"}]}',
      '{"name":"n","plugins":[]}', '{"plugins":[{"type":"bridge"}]}', '{"name":"n","plugins":[{}]}',
    }
    assert.equal("yes", said[1])
    for i = 2, 5 do assert.truthy(said[i]:find("^no"), i) end
  end)
end)
