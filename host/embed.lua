-- SPDX-License-Identifier: MIT
-- Build time: compiles every script of the tree and writes one blob with all of them, and a C file
-- with the table of what is where in it. Debug information stays, so errors show file and line.
--   lua5.4 host/embed.lua OUTPUT.c OUTPUT.bin FILE...
local out_c, out_bin = arg[1], arg[2]

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
for i = 3, #arg do
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

-- Sources come after all code, so that pages holding them are touched by `luacni show` alone.
local blob, size = {}, 0
local function place(bytes)
  local offset = size
  blob[#blob + 1] = bytes
  size = size + #bytes
  return offset
end
for _, list in ipairs({ modules, plugins }) do
  for _, entry in ipairs(list) do
    entry.code_at = place(entry.code)
  end
end
for _, entry in ipairs(plugins) do
  entry.source_at = place(entry.source)
end
write(out_bin, table.concat(blob))

local function rows(name, list)
  local lines = {}
  for _, e in ipairs(list) do
    local source = e.source and ("blob + %d, %d"):format(e.source_at, #e.source) or "NULL, 0"
    lines[#lines + 1] = ("\t{ %q, blob + %d, %d, %s },\n"):format(e.name, e.code_at, #e.code,
      source)
  end
  -- An array may not be empty, so each ends in a row that is not counted.
  return ("const struct embedded embedded_%s[] = {\n%s\t{ NULL, NULL, 0, NULL, 0 },\n};\n"
    .. "const size_t embedded_%s_count = %d;\n"):format(name, table.concat(lines), name, #list)
end

write(out_c, '#include "state.h"\n\n',
  ('__asm__(".section .rodata\\n.balign 64\\nblob:\\n.incbin \\"%s\\"\\n.previous\\n");\n')
    :format(out_bin),
  'extern const char blob[] __attribute__((visibility("hidden")));\n\n',
  rows("modules", modules), rows("plugins", plugins))
