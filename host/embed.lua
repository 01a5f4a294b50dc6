-- SPDX-License-Identifier: MIT
-- Build time: compiles every script of the tree and writes OUTPUT.code with all of them,
-- OUTPUT.source with the plugins' text, and OUTPUT.c with the table of what is where in these.
-- Debug information stays, so errors show file and line.
--   lua5.4 host/embed.lua OUTPUT FILE...
local out = arg[1]

local function read(path)
  local file = assert(io.open(path, "rb"))
  return file:read("a"), file:close()
end

local function write(path, ...)
  local file = assert(io.open(path, "wb"))
  assert(file:write(...))
  assert(file:close())
end

local modules, plugins = {}, {}
for i = 2, #arg do
  local path = arg[i]
  local module, plugin = path:match("^lua/(.*)%.lua$"), path:match("^plugins/([^/]*)%.lua$")
  local chunk_name = plugin and plugin .. ".lua" or module .. ".lua"
  local source = read(path)
  local chunk, err = load(source, "@" .. chunk_name, "t")
  if not chunk then
    io.stderr:write(path, ": ", err, "\n")
    os.exit(1)
  end
  local entry = { code = string.dump(chunk) }
  if plugin then
    entry.name, entry.source = plugin, source
    plugins[#plugins + 1] = entry
  else
    entry.name = module:gsub("/", ".")
    modules[#modules + 1] = entry
  end
end

-- The order of strcmp, which looks names up.
os.setlocale("C")
local function by_name(a, b) return a.name < b.name end
table.sort(modules, by_name)
table.sort(plugins, by_name)

-- Code comes behind the image's place, and is cut off when that is filled: see host/image.h. The
-- sources stay, for `luacni show`.
local blobs = { code = {}, source = {} }
local sizes = { code = 0, source = 0 }
local function place(kind, bytes)
  local offset = sizes[kind]
  table.insert(blobs[kind], bytes)
  sizes[kind] = offset + #bytes
  return offset
end
for _, list in ipairs({ modules, plugins }) do
  for _, entry in ipairs(list) do
    entry.code_at = place("code", entry.code)
    entry.source_at = entry.source and place("source", entry.source)
  end
end
for kind, parts in pairs(blobs) do write(out .. "." .. kind, table.concat(parts)) end

local function rows(name, list)
  local lines = {}
  for _, e in ipairs(list) do
    local source = e.source and ("source + %d, %d"):format(e.source_at, #e.source) or "NULL, 0"
    lines[#lines + 1] = ("\t{ %q, code + %d, %d, %s },\n"):format(e.name, e.code_at, #e.code,
      source)
  end
  -- An array may not be empty, so each ends in a row that is not counted.
  return ("const struct embedded embedded_%s[] = {\n%s\t{ NULL, NULL, 0, NULL, 0 },\n};\n"
    .. "const size_t embedded_%s_count = %d;\n"):format(name, table.concat(lines), name, #list)
end

local function include(label, section)
  return ('__asm__(".section %s\\n%s:\\n.incbin \\"%s.%s\\"\\n.previous\\n");\n'
    .. "extern const char %s[];\n\n"):format(section, label, out, label, label)
end

write(out .. ".c", '#include "image.h"\n\n', include("code", 'luaimage,\\"aw\\"'),
  include("source", '.rodata.sources,\\"a\\"'), rows("modules", modules), rows("plugins", plugins))
