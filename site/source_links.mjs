// Links of pages to what is no page. The sources are not part of the site: a link to one becomes its text. A link to nothing fails.
import { existsSync, statSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';

/** A remark plugin. */
export function sourceLinks({ root, isPage }) {
  return (tree, file) => {
    const folder = dirname(file.path);
    const walk = (node) => {
      node.children = node.children?.flatMap((child) => {
        walk(child);
        if (child.type !== 'link' || /^([a-z][a-z0-9+.-]*:|#)/i.test(child.url)) return [child];
        const [path, anchor] = decodeURI(child.url).split('#');
        const target = resolve(folder, path);
        if (!existsSync(target)) throw new Error(`${file.path}: there is no ${path}`);
        const name = relative(root, target);
        const page = statSync(target).isDirectory() ? `${name}/README.md`.replace(/^\//, '') : name;
        if (!isPage(root, page)) return child.children;
        child.url = `${relative(folder, resolve(root, page))}${anchor === undefined ? '' : `#${anchor}`}`;
        return [child];
      });
    };
    walk(tree);
  };
}
