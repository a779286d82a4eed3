// The site: the Markdown of docs/ as it is, with pages that build.mjs writes beside it. Nothing is loaded from elsewhere.
import { fileURLToPath } from 'node:url';
import { isPage, PAGES, slugOf } from './pages.mjs';
import { sourceLinks } from './source_links.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

export default {
  title: 'Kijko',
  tagline: 'The backend of a company that sells AI developer tools, inside Postgres',
  // Canonical addresses and nothing else depend on it: links are relative to baseUrl.
  url: process.env.KIJKO_PUBLIC_URL ?? 'http://127.0.0.1:54321',
  baseUrl: '/docs/',
  // Each page is a folder with an index.html, which a server of files finds by itself.
  trailingSlash: true,
  // None: browsers would ask the API for one.
  headTags: [{ tagName: 'link', attributes: { rel: 'icon', href: 'data:,' } }],
  onBrokenLinks: 'throw',
  onBrokenAnchors: 'throw',
  onDuplicateRoutes: 'throw',
  future: { faster: true, v4: true },
  staticDirectories: ['generated/static'],
  markdown: {
    // The pages are for GitHub, too: `<name>` and `{name}` are text, and no JSX.
    format: 'md',
    mermaid: true,
    hooks: { onBrokenMarkdownLinks: 'throw', onBrokenMarkdownImages: 'throw' },
    async parseFrontMatter({ filePath, fileContent, defaultParseFrontMatter }) {
      const page = await defaultParseFrontMatter({ filePath, fileContent });
      return { ...page, frontMatter: { ...page.frontMatter, slug: slugOf(filePath.slice(root.length)) } };
    },
  },
  plugins: [
    [
      '@docusaurus/plugin-content-docs',
      {
        path: '..',
        routeBasePath: '/',
        include: PAGES,
        sidebarPath: './sidebars.mjs',
        breadcrumbs: false,
        beforeDefaultRemarkPlugins: [[sourceLinks, { root, isPage }]],
      },
    ],
  ],
  themes: [
    '@docusaurus/theme-classic',
    '@docusaurus/theme-mermaid',
    [
      '@easyops-cn/docusaurus-search-local',
      {
        hashed: true,
        indexBlog: false,
        docsRouteBasePath: '/',
        docsDir: '..',
        searchBarShortcutHint: false,
      },
    ],
  ],
  themeConfig: {
    colorMode: { respectPrefersColorScheme: true },
    navbar: {
      title: 'Kijko',
      items: [
        { type: 'docSidebar', sidebarId: 'guides', label: 'Guides' },
        { type: 'docSidebar', sidebarId: 'operations', label: 'Operations' },
        { type: 'docSidebar', sidebarId: 'internals', label: 'Internals' },
        { type: 'docSidebar', sidebarId: 'reference', label: 'Reference' },
      ],
    },
    docs: { sidebar: { autoCollapseCategories: true } },
    tableOfContents: { minHeadingLevel: 2, maxHeadingLevel: 3 },
    prism: { additionalLanguages: ['bash', 'sql', 'toml'] },
  },
};
